"""Plays recorded tasks in a sandbox, one after the other, and hands back the events they made there."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from raa_cli.replay.answers import Served
from raa_cli.replay.change import Change, Diverged
from raa_cli.replay.evidence import Evidence
from raa_cli.replay.recording import Recording, recorded
from raa_cli.replay.sandbox import Sandbox, with_model
from raa_client.observed import observe, reading
from raa_runtime.blobs import BlobStore
from raa_runtime.bus.port import Message, Record
from raa_schemas.approval import ApprovalRequested
from raa_schemas.cancel import CancelRequested
from raa_schemas.envelope import Envelope
from raa_schemas.event import Event
from raa_schemas.ids import owned, step_path
from raa_schemas.plan import PlanReady
from raa_schemas.step import StepDone, StepEvent
from raa_schemas.task import TaskCreated, TaskDone
from raa_schemas.topics import TOPICS, topic_of

QUIET_SECONDS: Final = 0.3
"""Silence after which recorded time goes on to the next recorded event."""

MOST_SANDBOXES: Final = 4
TASKS_PER_SANDBOX: Final = 25
PATIENCE_SECONDS: Final = 30.0
LATE_SECONDS: Final = 1.0
_A_MOMENT: Final = timedelta(milliseconds=1)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Played:
    """What became of one task in the sandbox."""

    tenant: str
    task_id: str
    replayed: Recording | None
    diverged: Diverged | None
    durations: dict[str, int]
    live: int = 0


class Observer:
    """Everything that was published in the sandbox, as it comes."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._records: dict[tuple[str, str], list[Record]] = {}
        self._events: dict[tuple[str, str], list[Event]] = {}
        self.came = asyncio.Event()

    async def run(self) -> None:
        """Read until cancelled."""
        topics = [owned(self._sandbox.deployment, name) for name in TOPICS]
        async with reading(self._sandbox.bus, topics, from_beginning=True, follow=True) as records:
            async for record in records:
                observed = observe(record, self._sandbox.deployment)
                if observed is not None:
                    place = observed.tenant, observed.envelope.subject
                    self._records.setdefault(place, []).append(record)
                    self._events.setdefault(place, []).append(observed.event)
                    self.came.set()

    def events(self, tenant: str, task: str) -> list[Event]:
        """Give the events of a task so far."""
        return self._events.get((tenant, task), [])

    def taken(self, tenant: str, task: str) -> Recording | None:
        """Give a task's events as a recording, and forget them."""
        records = self._records.pop((tenant, task), [])
        self._events.pop((tenant, task), None)
        return recorded(records, self._sandbox.deployment, tenant).get(task)


async def play(
    cases: Sequence[Evidence],
    change: Change,
    folder: Path,
    blobs: BlobStore,
    *,
    tools: Sequence[Path] = (),
    models: Path | None = None,
    told: Progress | None = None,
) -> list[Played]:
    """Play all cases, each sandbox those that were planned with one model; gives them in their order.

    Many cases are dealt to several sandboxes, each with a clock of its own, because a task mostly waits for the disk.
    `tools` are files with tools of one's own, `models` is a file of models, as the stack has them that is replayed.
    """
    played: dict[int, Played] = {}

    async def in_sandbox(number: int, asked: str, places: Sequence[int]) -> None:
        own = change.settings(asked)
        settings = own | with_model(own["model"], models) | ({"tools": list(tools)} if tools else {})
        async with _open(folder / f"{number}", blobs, settings) as (sandbox, observer):
            for place in places:
                played[place] = await Performance(sandbox, observer, cases[place], change).run()
                if told:
                    told(cases[place].recording.task_id)

    dealt = [asyncio.create_task(in_sandbox(number, *hand)) for number, hand in enumerate(_deal(cases))]
    try:
        await asyncio.gather(*dealt)
    finally:
        for sandbox in dealt:
            sandbox.cancel()
        await asyncio.gather(*dealt, return_exceptions=True)
    return [played[place] for place in range(len(cases))]


def _deal(cases: Sequence[Evidence]) -> list[tuple[str, list[int]]]:
    """Deal cases to sandboxes by the model they asked for, at most 4 sandboxes for one."""
    hands: list[tuple[str, list[int]]] = []
    for asked in dict.fromkeys(case.asked for case in cases):
        places = [place for place, case in enumerate(cases) if case.asked == asked]
        count = min(MOST_SANDBOXES, math.ceil(len(places) / TASKS_PER_SANDBOX))
        hands += [(asked, places[first::count]) for first in range(count)]
    return hands


@contextlib.asynccontextmanager
async def _open(folder: Path, blobs: BlobStore, settings: dict[str, Any]) -> AsyncIterator[tuple[Sandbox, Observer]]:
    async with Sandbox(folder, blobs, **settings) as sandbox:
        await sandbox.ready()
        await sandbox.look_at_tools()
        observer = Observer(sandbox)
        reader = asyncio.create_task(observer.run())
        try:
            yield sandbox, observer
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


class Performance:
    """One task on the stage: what came from outside comes again, and time goes on when nothing else does."""

    def __init__(self, sandbox: Sandbox, observer: Observer, case: Evidence, change: Change) -> None:
        self._sandbox, self._observer, self._case = sandbox, observer, case
        self._cancels = list(case.cancels)
        self._answered: set[str] = set()
        self._tenant, self._task = case.recording.tenant, case.recording.task_id
        other_tools = case.tools not in {None, sandbox.tools}
        self._served = Served(case, change, self._outside_until, other_tools)
        self._times = sorted({seen.envelope.time for seen in case.recording.events})

    async def run(self) -> Played:
        """Submit the task, and follow it to its end."""
        self._sandbox.clock.set(self._case.recording.begun)
        self._sandbox.stage.enter(self._tenant, self._task, self._served)
        self._sandbox.approvers.know({vote.decided_by for vote in self._case.votes})
        await self._submit()
        await self._to_the_end()
        await self._late_steps()
        replayed = self._observer.taken(self._tenant, self._task)
        return Played(self._tenant, self._task, replayed, self._served.diverged, self._served.durations,
                      self._served.live)  # fmt: skip

    async def _submit(self) -> None:
        created = self._case.created
        task = created.event
        if not isinstance(task, TaskCreated):
            raise TypeError("the recording of a task begins with its task.created")
        hashes = self._case.manifest
        inputs = [
            item.model_copy(update={"uri": f"blob:sha256/{hashes[item.name]}"})
            if item.name in hashes and item.data is None
            else item
            for item in task.inputs
        ]
        await self._publish(task.model_copy(update={"inputs": inputs}), created.envelope)

    async def _publish(self, event: Event, then: Envelope | None = None) -> None:
        topic = topic_of(type(event))
        step = step_path(event.plan_version, event.step) if isinstance(event, StepEvent) else None
        key = topic.aggregate_id(self._tenant, self._task, step)
        envelope = Envelope(
            id=then.id if then else f"{self._sandbox.deployment}-{key}-{len(self._answered)}-{event.event_type()}",
            source=then.source if then else "client",
            type=topic.name,
            time=then.time if then else self._sandbox.clock.now(),
            subject=self._task,
            tenant=self._tenant,
            dataschema=event.schema_name(),
            step=step,
            deadline=then.deadline if then else None,
            traceparent=then.traceparent if then else None,
        )
        name = owned(self._sandbox.deployment, topic.name)
        (problem,) = await self._sandbox.bus.publish(
            [Message(name, key.encode(), event.to_json(), tuple(envelope.headers()))]
        )
        if problem is not None:
            raise problem

    async def _to_the_end(self) -> None:
        waited = 0.0
        while not self._ended():
            await self._answer_for_people()
            if await self._something_came():
                waited = 0.0
            elif not self._served.under_way:
                waited += QUIET_SECONDS
                await self._time_goes_on(waited)

    async def _something_came(self) -> bool:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self._observer.came.wait()
        except TimeoutError:
            return False
        self._observer.came.clear()  # what comes from here on is seen by the next look at the events
        return True

    def _ended(self) -> bool:
        return any(isinstance(event, TaskDone) for event in self._observer.events(self._tenant, self._task))

    async def _answer_for_people(self) -> None:
        """Give a person's recorded answer to the same question; a question that nobody was asked is a divergence."""
        for event in list(self._observer.events(self._tenant, self._task)):
            if isinstance(event, ApprovalRequested) and event.approval_id not in self._answered:
                self._answered.add(event.approval_id)
                await self._answer(event)

    async def _answer(self, asked: ApprovalRequested) -> None:
        about = (asked.plan_version, asked.step, asked.args_hash)
        votes = [vote for vote in self._case.votes if (vote.plan_version, vote.step, vote.args_hash) == about]
        fitting = [vote for vote in votes if (vote.verdict in {"approve", "deny"}) == (asked.question == "may_run")]
        for vote in fitting:
            given = {"approval_id": asked.approval_id, "signature": "recorded"}
            await self._publish(vote.model_copy(update=given))
        if not fitting and (*about, asked.question) not in self._case.questions:
            why = f"a person is asked whether {asked.tool} may run, and nobody was asked that"
            self._served.mark(f"the approval of v{asked.plan_version}/{asked.step}", why, None)
            await self._publish(CancelRequested(task_id=self._task, requested_by="replay", reason="diverged"))

    async def _time_goes_on(self, waited: float) -> None:
        """Go on to the next recorded event: what the task waited for then comes, or is due, now."""
        now = self._sandbox.clock.now()
        later = next((at for at in self._times if at > now), None)
        if later is not None:
            self._sandbox.clock.set(later + _A_MOMENT)
        if self._cancels:
            await self._outside_until(self._sandbox.clock.now())
        elif later is None and waited > PATIENCE_SECONDS and self._served.diverged is None:
            self._served.mark("its end", "the task waits for something that never came when it was recorded", None)
            await self._publish(CancelRequested(task_id=self._task, requested_by="replay", reason="diverged"))

    async def _outside_until(self, at: datetime) -> None:
        """Let cancels come that came before a recorded time, and let them be taken in."""
        while self._cancels and self._cancels[0].envelope.time < at:
            cancel = self._cancels.pop(0)
            await self._publish(cancel.event, cancel.envelope)
            await asyncio.sleep(QUIET_SECONDS)

    async def _late_steps(self) -> None:
        """Wait a moment for steps that settle after the end, as those of a cancelled task do."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_SECONDS):
                while self._served.diverged is None and self._runs_go_on():
                    await self._something_came()

    def _runs_go_on(self) -> bool:
        events = self._observer.events(self._tenant, self._task)
        begun = {event.plan.version for event in events if isinstance(event, PlanReady)}
        return bool(begun - {event.plan_version for event in events if isinstance(event, StepDone) and event.terminal})
