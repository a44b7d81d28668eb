"""What a handler sees: one aggregate, one cause, and what it may ask for. Nothing here does I/O."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from pydantic_core import from_json, to_json

from raa_runtime.state.aggregate import Activity, Aggregate, Entry, S
from raa_runtime.state.codec import Kind
from raa_schemas.canonical import digest
from raa_schemas.envelope import Envelope
from raa_schemas.errors import ErrorInfo
from raa_schemas.event import Event
from raa_schemas.ids import EventId, event_id, owned, step_path
from raa_schemas.step import StepEvent
from raa_schemas.topics import topic_of

E = TypeVar("E", bound=Event)
ActivityOutcome = Literal["done", "failed", "unknown", "cancelled"]


def new_traceparent(aggregate: str) -> str:
    """Derive a W3C trace context, not sampled, for a task whose client sent none: the same in every service."""
    ids = hashlib.sha256(aggregate.encode()).hexdigest()
    return f"00-{ids[:32]}-{ids[32:48]}-00"


@dataclass(slots=True)
class Origin:
    """Where a record lay."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class Received(Generic[E]):
    """An event as it arrived; `digest` is the hash of its body."""

    data: E
    id: str
    tenant: str
    time: datetime
    origin: Origin
    digest: str
    traceparent: str | None = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The outcome of an activity."""

    activity_id: str
    kind: str
    args: dict[str, Any]
    key: str
    attempt: int
    epoch: int
    outcome: ActivityOutcome
    result: Any = None
    error: ErrorInfo | None = None
    duration_ms: int = 0


@dataclass(slots=True)
class Unit(Generic[S]):
    """One aggregate inside one unit of work.

    `cause_id` is the event that led here: the one handled, or the one that started an activity; for timers and commands
    the newest event of the aggregate.
    """

    kind: Kind[S]
    aggregate: Aggregate[S]
    now: datetime
    service: str
    deployment: str
    owner: str
    cause_id: str | None = None
    published: list[Event] = field(default_factory=list)
    started: list[Activity] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    ignored: str | None = None

    @property
    def id(self) -> str:
        """Name the aggregate."""
        return self.aggregate.id

    @property
    def tenant(self) -> str:
        """Name its tenant."""
        return self.aggregate.tenant

    @property
    def task_id(self) -> str:
        """Name its task."""
        return self.aggregate.task_id

    @property
    def is_new(self) -> bool:
        """Say whether nothing was stored of it before."""
        return self.aggregate.version == 0

    @property
    def closed(self) -> bool:
        """Say whether it has ended."""
        return self.aggregate.closed

    @property
    def state(self) -> S:
        """Give the state, which a handler may change in place."""
        return self.aggregate.state

    @state.setter
    def state(self, state: S) -> None:
        self.aggregate.state = state

    @property
    def activities(self) -> Mapping[str, Activity]:
        """Give the activities under way."""
        return self.aggregate.activities

    @property
    def timers(self) -> dict[str, datetime]:
        """Give the timers that are set."""
        return {name: datetime.fromtimestamp(at, UTC) for name, at in self.aggregate.timers.items()}

    def publish(self, event: Event, *, reply_to: str | None = None) -> EventId:
        """Put an event into the outbox, on its own topic or on `reply_to`; the same stored unit makes it durable."""
        context = self.aggregate.context
        if (event.correlation_id, event.labels) != (context.correlation_id, context.labels):
            event = event.model_copy(update={"correlation_id": context.correlation_id, "labels": context.labels})
        self.aggregate.counter += 1
        event_type = event.event_type()
        identity = event_id(self.deployment, self.service, self.id, event_type, self.aggregate.counter)
        step = step_path(event.plan_version, event.step) if isinstance(event, StepEvent) else None
        envelope = Envelope(
            id=identity,
            source=f"raa/{self.service}",
            type=event_type,
            time=self.now,
            subject=event.task_id,
            tenant=self.tenant,
            dataschema=event.schema_name(),
            step=step,
            causation_id=self.cause_id,
            deadline=datetime.fromtimestamp(context.deadline, UTC) if context.deadline else None,
            traceparent=context.traceparent,
        )
        topic = topic_of(type(event))
        self.aggregate.outbox.append(
            Entry(
                event_id=identity,
                topic=reply_to or owned(self.deployment, topic.name),
                key=topic.aggregate_id(self.tenant, event.task_id, step),
                headers=envelope.texts(),
                value=event.model_dump_json(),
            )
        )
        self.published.append(event)
        return identity

    def start(
        self,
        kind: str,
        args: dict[str, Any],
        *,
        effect: str = "read",
        timeout: timedelta,
        key: str | None = None,
        id: str | None = None,  # noqa: A002  # reads as a name at the call
        epoch: int = 1,
    ) -> str:
        """Write the intent of an activity; it starts after this unit is stored. `args` is a JSON object.

        Whoever starts one `id` again gives it a higher `epoch` than any before, `Completed.epoch` included: the far
        side, and this process, take what has a lower one for late.
        """
        self.aggregate.counter += 1
        name = id or f"{kind}-{self.aggregate.counter}"
        if name in self.aggregate.activities:
            raise ValueError(f"the activity {name!r} of {self.id} is already under way")
        identity = [self.deployment, self.service, self.id, kind, self.aggregate.counter]
        activity = Activity(
            id=name,
            kind=kind,
            args=from_json(to_json(args)),  # as it will be read back; the caller may go on with its own
            key=key or digest(identity).removeprefix("sha256:")[:40],
            effect=effect,
            owner=self.owner,
            epoch=epoch,
            deadline=(self.now + timeout).timestamp(),
            timeout_seconds=timeout.total_seconds(),
            started_at=self.now.timestamp(),
            cause_id=self.cause_id,
        )
        self.aggregate.activities[name] = activity
        self.started.append(activity)
        return name

    def stop(self, activity_id: str) -> None:
        """Ask for an activity to end; its `Completed` follows with the outcome cancelled, unless it was faster."""
        if activity_id in self.aggregate.activities:
            self.aggregate.activities[activity_id].stopping = True
            self.stopped.append(activity_id)

    def set_timer(self, name: str, at: datetime) -> None:
        """Wake this aggregate at a time; one timer per name."""
        self.aggregate.timers[name] = at.timestamp()

    def clear_timer(self, name: str) -> None:
        """Forget a timer."""
        self.aggregate.timers.pop(name, None)

    def mark(self, name: str, value: str | float | None) -> None:
        """Set an indexed value, or remove it with None."""
        if value is None:
            self.aggregate.marks.pop(name, None)
        else:
            self.aggregate.marks[name] = value

    def close(self) -> None:
        """End the aggregate: no timers, no activities; it shrinks once its outbox is known to be published.

        What other processes run for it stays noted as to be stopped until it has ended; its outcome decides nothing.
        """
        self.aggregate.closed = True
        self.aggregate.timers.clear()
        elsewhere = {}
        for name, activity in self.aggregate.activities.items():
            if activity.owner == self.owner:
                self.stopped.append(name)
            else:
                elsewhere[name], activity.stopping = activity, True
        self.aggregate.activities = elsewhere

    def ignore(self, reason: str) -> None:
        """Decide that there is nothing to do; creates no aggregate."""
        self.ignored = reason

    def take_context(self, event: Received[Any]) -> None:
        """Remember what all events of the task carry on, when the aggregate is created."""
        context = self.aggregate.context
        context.correlation_id, context.labels = event.data.correlation_id, event.data.labels
        context.traceparent = event.traceparent or new_traceparent(self.id)
        context.deadline = event.deadline.timestamp() if event.deadline else None

    def set_deadline(self, deadline: datetime) -> None:
        """Set the deadline that all events published from now on carry."""
        self.aggregate.context = replace(self.aggregate.context, deadline=deadline.timestamp())
