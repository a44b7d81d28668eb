"""What a run left behind, read for the judge: the events of the topics and the calls of the tool server's ledger.

Knows the records from outside only: the standard library and JSON, nothing of the runtime that wrote them.
"""

import hashlib
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

TaskKey = tuple[str, str]
StepKey = tuple[str, str, int, str]

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "reflective-adaptive-agent")
_TASK_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(frozen=True, slots=True)
class Seen:
    """One record as it lay on the bus; `timestamp` in seconds, from one clock for all records of a run."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    headers: Mapping[str, str]
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the tool server's ledger; `at` in seconds. What it received, it did, unless it knew the key already.

    `step` is the step's id, or `v<plan version>/<step id>` where the caller knows it.
    """

    at: float
    phase: Literal["received", "answered", "probed"]
    effect: str
    key: str
    epoch: int
    instance: str
    tenant: str
    task: str
    step: str
    args_hash: str


@dataclass(frozen=True, slots=True)
class Told:
    """One readable event; `place` is where it lies."""

    id: str
    type: str
    tenant: str
    task: str
    body: dict[str, Any]
    digest: str
    at: float
    place: tuple[str, int, int]

    @property
    def aggregate(self) -> TaskKey:
        """Name the task it is about."""
        return self.tenant, self.task

    @property
    def step(self) -> StepKey:
        """Name the step it is about."""
        return self.tenant, self.task, int(self.body.get("plan_version", 0)), str(self.body.get("step", ""))


@dataclass(frozen=True)
class History:
    """The events in the order of their topics, and the calls in the order of time."""

    read: "Read"
    calls: list[Call]

    @cached_property
    def first(self) -> list[Told]:
        """Give each event once, where it was told first."""
        known: dict[tuple[str, str], Told] = {}
        for event in self.read.events:
            known.setdefault((event.type, event.id), event)
        return list(known.values())

    def of(self, *types: str) -> list[Told]:
        """Give the events of some types, each once."""
        return [event for event in self.first if event.type in types]

    def by_task(self, *types: str) -> dict[TaskKey, list[Told]]:
        """Give the events of some types by task, each once."""
        return grouped(self.of(*types), lambda event: event.aggregate)

    @cached_property
    def accepted(self) -> dict[TaskKey, Told]:
        """Give the first submission of each task that the planner did not refuse as a record."""
        submitted = self.of("task.created")
        taken = [event for event in submitted if event.place not in self.read.refused and _says_a_goal(event.body)]
        return {task: events[0] for task, events in grouped(taken, lambda event: event.aggregate).items()}

    @cached_property
    def started(self) -> dict[tuple[str, str, str], list[Told]]:
        """Give the step.started of each tenant, task and step id, over all plan versions."""
        return grouped(self.of("step.started"), lambda event: (event.tenant, event.task, event.step[3]))

    @cached_property
    def received(self) -> list[Call]:
        """Give the calls that asked for an effect."""
        return [call for call in self.calls if call.phase == "received"]


@dataclass(slots=True)
class Read:
    events: list[Told] = field(default_factory=list)
    unreadable: int = 0
    dead_letters: int = 0
    refused: set[tuple[str, int, int]] = field(default_factory=set)


def read(records: Iterable[Seen], deployment: str) -> Read:
    found = Read()
    for record in sorted(records, key=lambda one: (one.topic, one.partition, one.offset)):
        name = record.topic.removeprefix(f"{deployment}.") if deployment else record.topic
        if name.endswith(".dlq"):
            found.dead_letters += 1
            if record.headers.get("dl_kind") == "record" and record.headers.get("dl_group", "").endswith("planner"):
                found.refused.add(_origin(record.headers))
        elif (event := _event(record, name, deployment)) is not None:
            found.events.append(event)
        else:
            found.unreadable += 1
    return found


def _origin(headers: Mapping[str, str]) -> tuple[str, int, int]:
    numbers = [headers.get(name, "") for name in ("dl_partition", "dl_offset")]
    partition, offset = (int(text) if text.lstrip("-").isdigit() else -1 for text in numbers)
    return headers.get("dl_topic", ""), partition, offset


def _event(record: Seen, name: str, deployment: str) -> Told | None:
    headers, body = {key.lower(): text for key, text in record.headers.items()}, _object(record.value)
    if body is not None and headers.get("content-type", "").startswith("application/cloudevents+json"):
        headers, body = headers | {f"ce_{key}": str(item) for key, item in body.items()}, body.get("data")
    if not isinstance(body, dict):
        return None
    bound, event_type = _of_tenant(name)
    origin = f"{deployment}|{record.topic}|{record.partition}|{record.offset}|{int(record.timestamp * 1000)}"
    task = headers.get("ce_subject") or body.get("task_id") or _derived("task", origin)
    if not isinstance(task, str) or not _TASK_ID.fullmatch(task):
        return None
    return Told(
        id=headers.get("ce_id") or _derived("event", origin),
        type=event_type,
        tenant=bound or headers.get("ce_tenant") or headers.get("tenant") or "default",
        task=task,
        body=body,
        digest=hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest(),
        at=record.timestamp,
        place=(record.topic, record.partition, record.offset),
    )


def _of_tenant(name: str) -> tuple[str | None, str]:
    if not name.startswith("tenants."):
        return None, name
    _, tenant, event_type = name.split(".", 2)
    return tenant, event_type


def _derived(what: str, origin: str) -> str:
    derived = uuid.uuid5(_NAMESPACE, f"{what}|{origin}")
    return f"task-{derived.hex[:20]}" if what == "task" else str(derived)


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        body = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _says_a_goal(body: Mapping[str, Any]) -> bool:
    goal = body.get("goal")
    return isinstance(goal, str) and bool(goal.strip())


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
