"""The planner's outside for tests: scripted memory and model behind real HTTP or ports, and calls of activities."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

from raa_planner.activities import Preparation
from raa_planner.adapters.local_files import RootedFiles
from raa_planner.metrics import PlannerMetrics
from raa_planner.ports import Memory, ModelAnswer, Question
from raa_runtime.activities import Call
from raa_runtime.blobs import LocalBlobs
from raa_runtime.clock import SystemClock
from raa_runtime.telemetry import Metrics, logger
from raa_schemas.ids import TaskId, TenantId
from raa_schemas.recall import RecallAnswer, RecallRequest
from raa_schemas.tool import ToolList, ToolSpec

LOG = logger("test")
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def call_of(args: dict[str, Any], kind: str = "prepare", seconds: float = 60) -> Call:
    clock = SystemClock()
    return Call(
        activity_id=f"{kind}-1",
        kind=kind,
        args=args,
        tenant=TenantId("default"),
        task_id=TaskId("t1"),
        aggregate="default/t1",
        key="the-key",
        effect="read",
        attempt=1,
        epoch=1,
        deadline=clock.now() + timedelta(seconds=seconds),
        recovering=False,
        clock=clock,
        lease=lambda: None,
    )


class Tools:
    """A catalog of one tool."""

    async def tools(self) -> ToolList:
        spec = ToolSpec(name="calculate", arguments={"type": "object"}, effect="read", risk="read")
        return ToolList(tools=[spec], digest="sha256:tools")


class Handled:
    """Reflections the planner has handled."""

    async def newest(self, tenant: str) -> list[str]:
        return [f"newest of {tenant}"]


class Knowing:
    """A memory with one answer, or one failure."""

    def __init__(self, answer: RecallAnswer | Exception | None = None) -> None:
        self.answer = answer or RecallAnswer(digest="sha256:none")
        self.asked: list[RecallRequest] = []

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Scripted:
    """A model that says what it is told to say."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.asked: list[Question] = []

    async def complete(self, question: Question) -> ModelAnswer:
        self.asked.append(question)
        return ModelAnswer(self.texts.pop(0) if len(self.texts) > 1 else self.texts[0], "scripted", 7)


def preparation(folder: Path, memory: Memory | None = None) -> Preparation:
    blobs, files = LocalBlobs(folder / "blobs", ""), RootedFiles([folder / "inputs"])
    return Preparation(blobs, files, memory or Knowing(), Handled(), Tools(), PlannerMetrics(Metrics()), LOG)


@asynccontextmanager
async def serving(method: str, path: str, reply: Reply) -> AsyncIterator[tuple[ClientSession, str]]:
    """Serve one route on loopback; gives a session and the base address."""
    app = web.Application()
    app.router.add_route(method, path, reply)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with ClientSession() as session:
            yield session, f"http://{host}:{port}"
    finally:
        await runner.cleanup()
