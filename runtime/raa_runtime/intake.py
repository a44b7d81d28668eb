"""From a record to an event: envelope, tenant, aggregate, body. Everything wrong with a record shows here."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from raa_runtime.bus.port import Record
from raa_runtime.unit import Origin, Received
from raa_schemas.canonical import digest_bytes
from raa_schemas.envelope import Envelope, InvalidEventError, Place, decode
from raa_schemas.ids import TenantId, origin_key
from raa_schemas.tenants import IntakePolicy, resolve_tenant
from raa_schemas.topics import TENANT_PREFIX, TOPICS, Topic

_TENANTS_KEPT: Final = 10_000


@dataclass(slots=True)
class Addressed:
    """A record whose envelope was read: enough to find its lane."""

    record: Record
    envelope: Envelope
    body: bytes
    topic: Topic
    tenant: TenantId
    aggregate: str


class Intake:
    """Read records of one deployment."""

    def __init__(self, deployment: str, policy: IntakePolicy) -> None:
        self._prefix = f"{deployment}." if deployment else ""
        self._deployment = deployment
        self._policy = policy
        self._topics: dict[str, Topic] = {}
        self._tenants: dict[tuple[str, str | None], TenantId] = {}

    def topic(self, name: str) -> Topic:
        """Find the declaration of a topic by its name on the bus, which may belong to one tenant."""
        known = self._topics.get(name)
        if known is None:
            known = self._topics[name] = self._declared(name)
        return known

    def _declared(self, name: str) -> Topic:
        bare = name.removeprefix(self._prefix)
        if bare.startswith(f"{TENANT_PREFIX}."):
            bare = bare.split(".", 2)[2]
        return TOPICS[bare]

    def find(self, name: str) -> Topic | None:
        """Find the declaration of a topic, None if it is no topic of events."""
        try:
            return self.topic(name)
        except (KeyError, IndexError):
            return None

    def place(self, record: Record) -> Place:
        """Say what a record's topic and position imply."""
        topic = self.topic(record.topic)
        origin = origin_key(self._deployment, record.topic, record.partition, record.offset, record.timestamp)
        return Place(topic.name, topic.event.major, origin, record.timestamp)

    def address(self, record: Record) -> Addressed:
        """Read the envelope; raises InvalidEventError."""
        topic = self.topic(record.topic)
        envelope, body = decode(record.headers, record.value, self.place(record))
        tenant = self._tenants.get((record.topic, envelope.tenant)) or self._resolve(record.topic, envelope.tenant)
        aggregate = topic.aggregate_id(tenant, envelope.subject, envelope.step)
        return Addressed(record, envelope, body, topic, tenant, aggregate)

    def _resolve(self, topic: str, named: str | None) -> TenantId:
        """Resolve a tenant and remember it: the policy of a deployment does not change while it runs."""
        tenant = resolve_tenant(topic.removeprefix(self._prefix), named, self._policy)
        if len(self._tenants) >= _TENANTS_KEPT:
            self._tenants.clear()
        self._tenants[topic, named] = tenant
        return tenant


def read_body(addressed: Addressed) -> Received[Any]:
    """Validate the body; raises InvalidEventError naming each field that is wrong."""
    envelope, record = addressed.envelope, addressed.record
    try:
        data = addressed.topic.event.model_validate_json(addressed.body)
    except ValidationError as problem:
        raise InvalidEventError(_explain(addressed, problem)) from None
    named: str | None = data.task_id  # a client may leave it out of task.created
    if named is None:
        data = data.model_copy(update={"task_id": envelope.subject})
    elif named != envelope.subject:
        raise InvalidEventError(f"the body says task {named!r}, ce_subject says {envelope.subject!r}")
    return Received(
        data=data,
        id=envelope.id,
        tenant=addressed.tenant,
        time=envelope.time,
        origin=Origin(record.topic, record.partition, record.offset),
        digest=digest_bytes(addressed.body)[-16:],
        traceparent=envelope.traceparent,
        deadline=envelope.deadline,
    )


def _explain(addressed: Addressed, problem: ValidationError) -> str:
    items = [
        f"{'.'.join(str(part) for part in item['loc']) or 'the body'}: {item['msg']}"
        for item in problem.errors(include_url=False, include_input=False)[:5]
    ]
    return f"not a valid {addressed.envelope.type}: {'; '.join(items)}"
