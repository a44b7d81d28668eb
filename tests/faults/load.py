"""The load of a fault run: tasks with ready-made plans over all effect classes, and a person who answers questions."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from raa_client.client import Client
from raa_client.connect import connect
from raa_client.observed import Observed, observe, reading
from raa_client.operator import Operator
from raa_runtime.errors import RaaError
from raa_runtime.settings import ServiceSettings
from raa_schemas.approval import ApprovalDecided, ApprovalRequested, Verdict
from raa_schemas.ids import owned
from raa_schemas.task import TaskCreated, TaskDone
from tests.faults.evidence import Call

MIX: Final = ("calculate", "ledger.read", "ledger.keyed", "ledger.checkable", "ledger.once")
EXTERNAL: Final = ("ledger.keyed", "ledger.checkable", "ledger.once")
_LOOK_SECONDS: Final = 0.4
_AT_ONCE: Final = 50


def planned(task_id: str, tool: str, note: str = "", mode: str = "delay", seconds: float = 0.05) -> TaskCreated:
    """Plan a calculation and behind it one call of `tool`; the result is the calculation's."""
    number = len(task_id)
    steps: list[dict[str, Any]] = [
        {"id": "sum", "tool": "calculate", "args": {"expression": "a + 1", "values": {"a": number}}}
    ]
    if tool != "calculate":
        args = {"note": note or task_id, "mode": mode, "seconds": seconds}
        steps.append({"id": "act", "tool": tool, "args": args, "after": ["sum"]})
    plan = {"steps": steps, "result": {"ref": "sum", "path": "/value"}}
    off = {"memory": "off", "deadline_seconds": 900 + seconds}
    return TaskCreated.model_validate(
        {"task_id": task_id, "goal": f"{tool} {task_id}", "plan": plan, "constraints": off}
    )


def mixed(count: int, prefix: str, tools: Sequence[str] = MIX, **how: Any) -> list[TaskCreated]:
    """Plan `count` tasks over the tools in turn."""
    return [planned(f"{prefix}{number}", tools[number % len(tools)], **how) for number in range(count)]


def read_ledger(path: Path) -> list[Call]:
    """Read the tool server's ledger; a line it was writing when it was ended is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Call(**json.loads(line)) for line in lines]


class Load:
    """Submits tasks of one tenant and sees them to their ends, however often the deployment is away."""

    def __init__(self, settings: ServiceSettings, ledger: Path, operator: Operator, tenant: str = "default") -> None:
        self.settings, self.tenant = settings, tenant
        self._ledger, self._operator = ledger, operator
        self._answered: set[str] = set()
        self.submitted: set[str] = set()
        self.ended: dict[str, TaskDone] = {}

    async def trickle(self, tasks: Sequence[TaskCreated], per_second: float) -> None:
        """Submit tasks one after the other, so that there is something under way for a while."""
        for task in tasks:
            await self.submit([task])
            await asyncio.sleep(1 / per_second)

    async def submit(self, tasks: Iterable[TaskCreated]) -> None:
        """Publish tasks; one whose publication may have failed is published again, which is no second task."""
        waiting = list(tasks)
        while waiting:
            try:
                async with connect(self.settings, self.tenant) as client:
                    while waiting:
                        now = waiting[:_AT_ONCE]
                        await asyncio.gather(*map(client.submit, now))
                        self.submitted.update(task.task_id or "" for task in now)
                        del waiting[:_AT_ONCE]
            except (RaaError, OSError):
                await asyncio.sleep(_LOOK_SECONDS)

    async def until_ended(self, count: int | None = None, *, seconds: float = 120) -> None:
        """Wait until `count` tasks (all that were submitted, unless said) have ended.

        Raises AssertionError that names the others.
        """
        wanted = len(self.submitted) if count is None else count
        try:
            async with asyncio.timeout(seconds):
                while len(self.ended) < wanted:
                    try:
                        async with connect(self.settings, self.tenant) as client:
                            await self._look_until(client, wanted)
                    except (RaaError, OSError):
                        await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            left = sorted(self.submitted - self.ended.keys())
            message = f"{len(self.ended)} of {wanted} tasks ended in {seconds:g} s; not yet: {', '.join(left[:20])}"
            raise AssertionError(message) from None

    async def _look_until(self, client: Client, count: int) -> None:
        while True:
            await self._look(client)
            if len(self.ended) >= count:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self, client: Client) -> None:
        kinds = (ApprovalDecided, ApprovalRequested, TaskDone)
        topics = [owned(self.settings.deployment, kind.event_type()) for kind in kinds]
        asked: list[ApprovalRequested] = []
        async with reading(client.bus, topics, from_beginning=True, follow=False) as records:
            async for record in records:
                found = observe(record, self.settings.deployment, tenant=self.tenant)
                asked += self._note(found) if found else []
        for question in asked:
            if question.approval_id not in self._answered:
                await self._answer(client, question)

    def _note(self, found: Observed) -> list[ApprovalRequested]:
        event = found.event
        if isinstance(event, TaskDone) and event.task_id in self.submitted:
            self.ended[event.task_id] = event
        elif isinstance(event, ApprovalDecided):
            self._answered.add(event.approval_id)
        return [event] if isinstance(event, ApprovalRequested) else []

    async def _answer(self, client: Client, asked: ApprovalRequested) -> None:
        """Say as a person would who looked at the far side."""
        calls = read_ledger(self._ledger)
        done = any(
            call.phase == "received" and (call.tenant, call.task, call.step) == (self.tenant, asked.task_id, asked.step)
            for call in calls
        )
        verdict: Verdict = "approve" if asked.question == "may_run" else "happened" if done else "not_happened"
        await client.decide(asked, verdict, "looked at the ledger", self._operator)
        self._answered.add(asked.approval_id)
