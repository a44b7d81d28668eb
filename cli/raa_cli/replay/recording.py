"""Recordings: the events of chosen tasks as they lie on the bus, read as an observer, without a group."""

import base64
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from raa_client.observed import Observed, in_order, observe, reading
from raa_runtime.bus.port import Bus, Record
from raa_schemas.event import Event
from raa_schemas.ids import owned
from raa_schemas.plan import PlanReady
from raa_schemas.reflection import Lesson, ReflectionDone
from raa_schemas.step import StepDone, StepFinished
from raa_schemas.task import TaskCreated, TaskDone, TaskStatus
from raa_schemas.topics import TOPICS, tenant_topic

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Recording:
    """The events of one task, each once and in order, and the records they were read from."""

    tenant: str
    task_id: str
    deployment: str
    records: tuple[Record, ...]
    events: tuple[Observed, ...]

    def all(self, kind: type[E]) -> list[E]:
        """Give the events of exactly one type, oldest first."""
        return [seen.event for seen in self.events if type(seen.event) is kind]

    def newest(self, kind: type[E]) -> E | None:
        """Give the last event of a type."""
        return next(iter(reversed(self.all(kind))), None)

    @property
    def begun(self) -> datetime:
        """Give the time of its first event."""
        return self.events[0].envelope.time

    @property
    def ended(self) -> datetime:
        """Give the time of its last event."""
        return self.events[-1].envelope.time

    def why_not(self) -> str | None:
        """Say why it cannot be replayed: it runs, or some of its events are past the retention of their topic."""
        done, status = self.newest(TaskDone), self.newest(TaskStatus)
        if self.newest(TaskCreated) is None:
            return "its task.created is gone: past the retention of the topic"
        if done is None and status is not None and status.state == "ended":
            return "its task.done is gone: past the retention of the topic"
        if done is None:
            return f"it has not ended (it is {status.state if status else 'submitted'})"
        if done.attempts > len({ready.plan.version for ready in self.all(PlanReady)}):
            return "a plan.ready is gone: past the retention of the topic"
        told = {(item.plan_version, item.step) for item in self.all(StepFinished)}
        settled = {(item.plan_version, item.step) for item in self.all(StepDone) if item.attempt}
        if missing := settled - told:
            version, step = min(missing)
            return f"the step.finished of v{version}/{step} is gone: past the retention of the topic"
        return None


def recorded(records: Iterable[Record], deployment: str, tenant: str | None = None) -> dict[str, Recording]:
    """Collect the recordings of a tenant's tasks by task id."""
    by_task: dict[str, list[tuple[Record, Observed]]] = defaultdict(list)
    for record in records:
        observed = observe(record, deployment, tenant=tenant)
        if observed is not None:
            by_task[observed.envelope.subject].append((record, observed))
    return {task: _recording(task, seen, deployment) for task, seen in by_task.items()}


def _recording(task: str, seen: list[tuple[Record, Observed]], deployment: str) -> Recording:
    events = in_order(observed for _, observed in seen)
    return Recording(events[0].tenant, task, deployment, tuple(record for record, _ in seen), tuple(events))


async def read_tasks(bus: Bus, deployment: str, tenant: str, tasks: Collection[str]) -> dict[str, Recording]:
    """Read the events of named tasks from the beginning of all topics."""
    wanted = {task.encode() for task in tasks}
    topics = await _there(bus, [*(owned(deployment, name) for name in TOPICS), _intake(deployment, tenant)])
    kept = [record async for record in _records(bus, topics, lambda record: _may_be_about(record, wanted))]
    found = recorded(kept, deployment, tenant)
    return {task: found[task] for task in tasks if task in found}


async def created_between(
    bus: Bus, deployment: str, tenant: str, since: datetime | None, until: datetime | None
) -> list[str]:
    """Name the tasks of a tenant that were created in a span of time, oldest first; its end does not belong to it."""
    topics = await _there(bus, [owned(deployment, TaskCreated.event_type()), _intake(deployment, tenant)])
    found: dict[str, datetime] = {}
    async for record in _records(bus, topics, lambda _: True):
        observed = observe(record, deployment, tenant=tenant)
        if observed is not None and _within(observed.envelope.time, since, until):
            found.setdefault(observed.envelope.subject, observed.envelope.time)
    return sorted(found, key=lambda task: (found[task], task))


async def lessons_of(bus: Bus, deployment: str, tenant: str, wanted: Collection[str]) -> dict[str, Lesson]:
    """Look up lessons where tasks of a tenant learned them."""
    topics = await _there(bus, [owned(deployment, ReflectionDone.event_type())])
    found: dict[str, Lesson] = {}
    async for record in _records(bus, topics, lambda _: True):
        observed = observe(record, deployment, tenant=tenant)
        if observed is not None and isinstance(observed.event, ReflectionDone):
            found |= {lesson.id: lesson for lesson in observed.event.lessons if lesson.id in wanted}
    return found


def _within(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or since <= at) and (until is None or at < until)


def _intake(deployment: str, tenant: str) -> str:
    return owned(deployment, tenant_topic(tenant, TaskCreated))


async def _there(bus: Bus, topics: list[str]) -> list[str]:
    known = await bus.topics()
    return [topic for topic in topics if topic in known]


async def _records(bus: Bus, topics: list[str], wanted: Callable[[Record], bool]) -> AsyncIterator[Record]:
    if not topics:
        return
    async with reading(bus, topics, from_beginning=True, follow=False) as records:
        async for record in records:
            if wanted(record):
                yield record


def _may_be_about(record: Record, wanted: Collection[bytes]) -> bool:
    """Leave out at once what names another task in its headers; a bare record names none there."""
    subject = next((value for name, value in record.headers if name == "ce_subject"), None)
    return subject is None or subject in wanted


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records as JSON lines, for another release to read."""
    with path.open("w", encoding="utf-8") as out:
        for record in records:
            out.write(json.dumps(_as_json(record)) + "\n")


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote."""
    return [_from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _as_json(record: Record) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp.timestamp(),
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }


def _from_json(told: dict[str, Any]) -> Record:
    return Record(
        told["topic"],
        told["partition"],
        told["offset"],
        datetime.fromtimestamp(told["timestamp"], UTC),
        _bytes(told["key"]),
        _bytes(told["value"]),
        tuple((name, _bytes(value)) for name, value in told["headers"]),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
