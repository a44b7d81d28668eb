"""A small service to test the floor with: it counts, may fail on purpose, and does work outside its lane."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import Field

from raa_runtime.activities import Call
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Message, Record
from raa_runtime.clock import SystemClock
from raa_runtime.dispatch import On
from raa_runtime.errors import TransientError
from raa_runtime.kv import InProcessKeyValue
from raa_runtime.service import Does, Service, Timer
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.topics import topic_specs
from raa_runtime.unit import Completed, Received, Unit
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated, TaskDone, TaskStatus


class Count(State):
    goals: list[str] = Field(default_factory=list)
    rejected: int = 0


COUNT = Kind("count", Count, tombstone=lambda state: Count(goals=state.goals[:1]))


class Floor:
    """The parts of one process, and what the tests may change while it runs."""

    def __init__(self, folder: Path, name: str = "planner", **overrides: Any) -> None:
        self.folder, self.name = folder, name
        self.settings = ServiceSettings.from_env({}, data=folder, **overrides)
        self.bus: Any = EmbeddedBus(folder)
        self.effect = "read"
        self.seconds = 5.0
        self.fail: Callable[[str], Exception | None] = lambda _: None
        self.work: Callable[[Call], Any] = lambda call: call.args["goal"].upper()
        self.calls: list[Call] = []
        self.kind = COUNT
        self.more: list[On[Any]] = []
        self.fail_worked: Exception | None = None
        self.fail_rejected: Exception | None = None
        self.ignores: Callable[[], bool] = lambda: False

    def on_created(self, unit: Unit[Count], event: Received[TaskCreated]) -> None:
        if problem := self.fail(event.data.goal):
            raise problem
        if self.ignores():
            unit.ignore("as the test wants it")
            return
        unit.state.goals = [*unit.state.goals, event.data.goal]
        unit.publish(TaskStatus(task_id=unit.task_id, state="planning"))
        unit.set_timer("end", unit.now + timedelta(hours=1))
        if event.data.goal.startswith("work"):
            unit.start("work", {"goal": event.data.goal}, effect=self.effect, timeout=timedelta(seconds=self.seconds))

    def on_rejected(self, unit: Unit[Count], event: Received[PlanRejected]) -> None:
        if self.fail_rejected:
            raise self.fail_rejected
        unit.state.rejected += 1
        unit.publish(TaskStatus(task_id=unit.task_id, state="running"))

    def on_worked(self, unit: Unit[Count], done: Completed) -> None:
        if self.fail_worked:
            raise self.fail_worked
        unit.publish(TaskDone(task_id=unit.task_id, outcome="succeeded", result=[done.outcome, done.result]))
        unit.close()

    def on_end(self, unit: Unit[Count], timer: str) -> None:
        unit.publish(TaskDone(task_id=unit.task_id, outcome="expired"))
        unit.close()

    async def run_work(self, call: Call) -> Any:
        self.calls.append(call)
        answer = self.work(call)
        return await answer if asyncio.iscoroutine(answer) else answer

    def build(self) -> Service:
        platform: Any = SimpleNamespace(
            deployment="",
            data=self.folder,
            bus=self.bus,
            clock=SystemClock(),
            kv=InProcessKeyValue(),
            open_store=lambda name: SqliteStore(self.folder / f"{name}.sqlite"),
            logger=_quiet,
        )
        return Service(
            self.name,
            self.settings,
            platform,
            kinds=[self.kind],
            on=[On(TaskCreated, self.kind, self.on_created), On(PlanRejected, self.kind, self.on_rejected), *self.more],
            does=[Does("work", self.kind, self.run_work, self.on_worked)],
            timers=[Timer("end", self.kind, self.on_end)],
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        await self.bus.start()
        await self.bus.apply_topics(topic_specs(self.settings))
        service = self.build()
        await service.start()
        try:
            yield service
        finally:
            await service.drain()
            await self.bus.stop()

    async def records(self, topic: str) -> list[Record]:
        """Read what lies on a topic now."""
        return [record async for record in self.bus.read([topic], from_beginning=True, follow=False)]

    async def eventually(self, topic: str, count: int) -> list[Record]:
        """Wait until a topic holds so many records."""
        async with asyncio.timeout(10):
            while len(found := await self.records(topic)) < count:
                await self.bus.appended.wait(0.1)
        return found

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish and insist."""
        assert await self.bus.publish(messages) == [None] * len(messages)


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(10):
        while not await holds():  # noqa: ASYNC110  # what is waited for lies in a store or in another task
            await asyncio.sleep(0.02)


def _quiet(service: str) -> Any:
    import structlog

    # without processors it would render tracebacks with all their values, which takes seconds
    return structlog.wrap_logger(structlog.ReturnLogger(), processors=[lambda *_: ""])


def away(_: str) -> Exception:
    return TransientError("the far side is away", retry_after=0.05)
