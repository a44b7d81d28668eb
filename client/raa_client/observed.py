"""What an observer sees: a record of the bus as an event with its envelope, or nothing if it is about another task."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from raa_runtime.bus.port import Bus, Record
from raa_schemas.envelope import Envelope, InvalidEventError, Place, decode
from raa_schemas.event import Event
from raa_schemas.ids import origin_key, owned
from raa_schemas.task import TaskCreated
from raa_schemas.tenants import IntakePolicy, resolve_tenant
from raa_schemas.topics import TENANT_PREFIX, TOPICS, tenant_topic

# An observer only looks: whether a record without a tenant may come in is decided where it is taken up.
_OPEN: Final = IntakePolicy(allow_anonymous=True)
_PLACE: Final = {name: place for place, name in enumerate(TOPICS)}


@dataclass(frozen=True, slots=True)
class Observed:
    """One event as it lies on the bus."""

    event: Event
    envelope: Envelope
    tenant: str
    topic: str
    partition: int
    offset: int

    @property
    def id(self) -> str:
        """Give the event id, which is equal for every copy of the event."""
        return self.envelope.id

    def to_json(self) -> dict[str, Any]:
        """Write it as one JSON object: its attributes, then its data."""
        envelope = self.envelope
        return {
            "type": envelope.type,
            "id": envelope.id,
            "time": envelope.time.isoformat(),
            "source": envelope.source,
            "tenant": self.tenant,
            "task_id": envelope.subject,
            "step": envelope.step,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "data": self.event.model_dump(mode="json"),
        }


def story_topics(deployment: str, tenant: str) -> list[str]:
    """Name the topics that tell the story of a task: all but those an executor writes for executors."""
    told = [
        owned(deployment, topic.name) for topic in TOPICS.values() if topic.public or topic.readers != topic.writers
    ]
    return [*told, owned(deployment, tenant_topic(tenant, TaskCreated))]


def observe(
    record: Record, deployment: str, *, tenant: str | None = None, task_id: str | None = None
) -> Observed | None:
    """Read a record; None if it is about another tenant or task, or is no event at all.

    What cannot be read here became, or becomes, a dead letter of those who had to handle it.
    """
    if task_id is not None and _names_another(record, task_id):
        return None
    name = record.topic.removeprefix(owned(deployment, ""))
    declared = TOPICS.get(_event_type(name))
    if declared is None:
        return None
    origin = origin_key(deployment, record.topic, record.partition, record.offset, record.timestamp)
    try:
        place = Place(declared.name, declared.event.major, origin, record.timestamp)
        envelope, body = decode(record.headers, record.value, place)
        owner = resolve_tenant(name, envelope.tenant, _OPEN)
        event = declared.event.model_validate_json(body)
    except (InvalidEventError, ValidationError):
        return None
    if task_id not in {None, envelope.subject} or tenant not in {None, owner}:
        return None
    named = event if event.task_id else event.model_copy(update={"task_id": envelope.subject})
    return Observed(named, envelope, owner, record.topic, record.partition, record.offset)


@contextlib.asynccontextmanager
async def reading(
    bus: Bus, topics: Sequence[str], *, from_beginning: bool, follow: bool
) -> AsyncIterator[AsyncIterator[Record]]:
    """Read topics as an observer, and let go of the bus as soon as the block is left."""
    records = bus.read(topics, from_beginning=from_beginning, follow=follow)
    try:
        yield records
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


def in_order(events: Iterable[Observed]) -> list[Observed]:
    """Sort by time, each event once; what happened in the same microsecond in the order of the way of a task."""
    once = {observed.id: observed for observed in events}
    return sorted(once.values(), key=lambda observed: (observed.envelope.time, _PLACE[observed.envelope.type]))


def _names_another(record: Record, task_id: str) -> bool:
    wanted = task_id.encode()
    return any(name == "ce_subject" and value != wanted for name, value in record.headers)


def _event_type(name: str) -> str:
    return name.split(".", 2)[2] if name.startswith(f"{TENANT_PREFIX}.") else name
