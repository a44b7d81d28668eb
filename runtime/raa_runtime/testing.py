"""What tests of services need: units without a store, and whole services on a bus of their own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from raa_runtime.bus.port import Bus, Message, Record
from raa_runtime.platform import Platform, open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import Aggregate, S
from raa_runtime.state.codec import Kind
from raa_runtime.unit import ActivityOutcome, Completed, E, Origin, Received, Unit
from raa_schemas.envelope import Envelope
from raa_schemas.errors import ErrorInfo
from raa_schemas.event import Event
from raa_schemas.ids import AggregateId, owned, step_path, tenant_of
from raa_schemas.step import StepEvent
from raa_schemas.topics import topic_of

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
C = TypeVar("C", bound=ServiceSettings)


def unit_for(kind: Kind[S], aggregate: str, state: S | None = None, now: datetime = NOON) -> Unit[S]:
    """Build a unit over a stored aggregate, or over a new one without `state`; nothing is written anywhere."""
    document = Aggregate(
        AggregateId(aggregate),
        tenant_of(aggregate),
        aggregate.split("/")[1],
        state or kind.state(),
        version=0 if state is None else 1,
    )
    return Unit(kind, document, now, "test", "", "test:1:0")


def received(event: E, tenant: str = "default", time: datetime = NOON, event_id: str = "event-1") -> Received[E]:
    """Wrap an event as if it had arrived."""
    return Received(event, event_id, tenant, time, Origin(event.event_type(), 0, 0), "digest")


def completed(
    unit: Unit[Any],
    activity_id: str,
    result: Any = None,
    *,
    outcome: ActivityOutcome = "done",
    problem: ErrorInfo | None = None,
) -> Completed:
    """End an activity of a unit, as the runtime would."""
    activity = unit.aggregate.activities.pop(activity_id)
    return Completed(
        activity.id,
        activity.kind,
        activity.args,
        activity.key,
        activity.attempt,
        activity.epoch,
        outcome,
        result,
        problem,
    )


def message_of(event: Event, tenant: str = "default", deployment: str = "", event_id: str | None = None) -> Message:
    """Encode an event as a client or another service would publish it."""
    topic = topic_of(type(event))
    step = step_path(event.plan_version, event.step) if isinstance(event, StepEvent) else None
    envelope = Envelope(
        id=event_id or f"test-{event.event_type()}-{event.task_id}-{step}",
        source="test",
        type=event.event_type(),
        time=datetime.now(UTC),
        subject=event.task_id,
        tenant=tenant,
        dataschema=event.schema_name(),
        step=step,
    )
    key = topic.aggregate_id(tenant, event.task_id, step)
    return Message(owned(deployment, topic.name), key.encode(), event.to_json(), tuple(envelope.headers()))


@contextlib.asynccontextmanager
async def running(
    build: Callable[[C, Platform], Service], settings_class: type[C], folder: Path, **overrides: Any
) -> AsyncIterator[Service]:
    """Run one whole service on an embedded bus and store below `folder`; drains it at the end."""
    settings = settings_class.from_env({}, data=folder, **overrides)
    async with open_platform(settings) as platform:
        service = build(settings, platform)
        await service.start()
        try:
            yield service
        finally:
            await service.drain()


async def collect(bus: Bus, event: type[Event], count: int, timeout_seconds: float = 10) -> list[tuple[Record, Any]]:
    """Read the first `count` events of a topic from its beginning; raises TimeoutError if they do not come."""
    found: list[tuple[Record, Any]] = []
    async with asyncio.timeout(timeout_seconds):
        async for record in bus.read([topic_of(event).name], from_beginning=True, follow=True):
            found.append((record, event.model_validate_json(record.value or b"")))
            if len(found) == count:
                break
    return found
