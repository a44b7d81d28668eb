"""Events as clients publish them, and records as the history checker reads them."""

from raa_runtime.bus.port import Message, Record
from raa_runtime.simulated.clock import virtual_now
from raa_schemas.envelope import Envelope
from raa_schemas.event import Event
from raa_schemas.ids import step_path
from raa_schemas.step import StepEvent
from raa_schemas.topics import topic_of
from tests.faults.history import Seen


def message(event: Event, event_id: str, tenant: str = "default") -> Message:
    """Encode an event as a client would."""
    topic = topic_of(type(event))
    step = step_path(event.plan_version, event.step) if isinstance(event, StepEvent) else None
    envelope = Envelope(id=event_id, source="client", type=event.event_type(), time=virtual_now(),
                        subject=event.task_id, tenant=tenant, dataschema=event.schema_name(), step=step)  # fmt: skip
    key = topic.aggregate_id(tenant, event.task_id, step)
    return Message(topic.name, key.encode(), event.to_json(), tuple(envelope.headers()))


def seen(record: Record) -> Seen:
    headers = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
    return Seen(record.topic, record.partition, record.offset, record.timestamp.timestamp(), headers, record.value)
