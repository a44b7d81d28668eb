"""The aggregate document: everything one conditional write changes together."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from raa_schemas.ids import AggregateId

MAX_DOCUMENT_BYTES = 1_000_000
SEEN_KEPT = 64


class State(BaseModel):
    """The part of an aggregate a service decides on.

    Unknown fields of it, and of the states and parts of events nested in it, survive load and write.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=False)


S = TypeVar("S", bound=State)


@dataclass(slots=True)
class Context:
    """What every event of a task carries on: set once, when the aggregate is created."""

    correlation_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    deadline: float | None = None


@dataclass(slots=True)
class Entry:
    """An event in the outbox."""

    event_id: str
    topic: str
    key: str
    headers: list[tuple[str, str]]
    value: str


@dataclass(slots=True)
class Activity:
    """An intent: work outside the lane, and who does it. Times are seconds since the epoch.

    `cause_id` is the event that led to it, which causes what its outcome publishes too. `kept` is what it came
    to, kept because this aggregate could not take it: it was quarantined, or is of a newer release.
    """

    id: str
    kind: str
    args: dict[str, Any]
    key: str
    effect: str
    owner: str
    epoch: int
    deadline: float
    timeout_seconds: float
    attempt: int = 1
    started_at: float = 0.0
    stopping: bool = False
    cause_id: str | None = None
    kept: dict[str, Any] | None = None


@dataclass(slots=True)
class Deferred:
    """An event that has to be tried again, or waits behind one that has.

    `letter` is the dead letter that brought it here again, `redrives` counts how often that happened.
    """

    topic: str
    partition: int
    offset: int
    timestamp: float
    key: str | None
    headers: list[tuple[str, str | None]]
    value: str
    event_id: str
    tries: int
    due: float
    reason: str
    first_failed: float
    letter: str | None = None
    redrives: int = 0


def stop_mark(incarnation: str) -> str:
    """Name, among an aggregate's owners, the wish that this process stops an activity of it."""
    return f"stop!{incarnation}"


@dataclass(slots=True)
class Aggregate(Generic[S]):
    """One aggregate in memory. `version` is that of the stored document; 0: there is none yet.

    With `unreadable`, `state` is what was stored, as it was, and only the rest may be changed. `unknown` holds the
    fields beside it that a newer release added.
    """

    id: AggregateId
    tenant: str
    task_id: str
    state: S
    partition: int | None = None
    version: int = 0
    write_id: str = ""
    state_schema: int = 1
    wake_at: float | None = None
    wake_tries: int = 0
    quarantined: bool = False
    closed: bool = False
    tombstone: bool = False
    counter: int = 0
    context: Context = field(default_factory=Context)
    timers: dict[str, float] = field(default_factory=dict)
    marks: dict[str, str | float] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    outbox: list[Entry] = field(default_factory=list)
    activities: dict[str, Activity] = field(default_factory=dict)
    deferred: list[Deferred] = field(default_factory=list)
    updated_at: float = 0.0
    unreadable: Exception | None = None
    unknown: dict[str, Any] = field(default_factory=dict)

    @property
    def owners(self) -> list[str]:
        """Name the incarnations that run activities of this aggregate, and who of them is asked to stop one.

        A quarantined aggregate has none: nothing of it is taken over before its redrive.
        """
        if self.quarantined or not self.activities:
            return []
        owners = {activity.owner for activity in self.activities.values()}
        return sorted(owners | {stop_mark(item.owner) for item in self.activities.values() if item.stopping})
