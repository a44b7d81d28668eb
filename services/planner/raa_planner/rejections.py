"""Answers an intake record that cannot be read as a task, so that whoever wrote it is told why."""

import json
from typing import Any

from raa_runtime.bus.port import Message, Record
from raa_schemas.envelope import Envelope, InvalidEventError, TenantMismatchError
from raa_schemas.errors import error
from raa_schemas.ids import derived_event_id, derived_task_id, origin_key, owned, task_aggregate
from raa_schemas.task import Origin, TaskDone
from raa_schemas.tenants import IntakePolicy, resolve_tenant
from raa_schemas.topics import topic_of


def on_rejected(record: Record, reason: str, *, deployment: str, policy: IntakePolicy) -> Message:
    """Make the task.done of a record that is no task; the same record always makes the same event.

    Its task id is derived from where the record lies, never taken from its body: a broken second submission must not
    end the task whose id it names. What the body does say comes back in `details` and `correlation_id`.
    """
    place = origin_key(deployment, record.topic, record.partition, record.offset, record.timestamp)
    tenant, mismatch = _tenant_of(record, deployment, policy)
    done = _done(record, reason, derived_task_id(place), mismatch=mismatch)
    envelope = Envelope(
        id=derived_event_id(f"rejected|{place}"),
        source="raa/planner",
        type=done.event_type(),
        time=record.timestamp,
        subject=done.task_id,
        tenant=tenant,
        dataschema=done.schema_name(),
    )
    key = task_aggregate(tenant or "", done.task_id).encode()
    return Message(owned(deployment, topic_of(TaskDone).name), key, done.to_json(), tuple(envelope.headers()))


def _done(record: Record, reason: str, task_id: str, *, mismatch: bool) -> TaskDone:
    body = _read(record.value)
    named, correlation = (body or {}).get("task_id"), (body or {}).get("correlation_id")
    details = {"task_id": named[:200]} if isinstance(named, str) else {}
    return TaskDone(
        task_id=task_id,
        correlation_id=correlation if isinstance(correlation, str) and len(correlation) <= 256 else None,
        outcome="rejected",
        error=error("tenant_mismatch" if mismatch else _code(body), reason[:2_000], **details),
        origin=Origin(topic=record.topic, partition=record.partition, offset=record.offset),
    )


def _code(body: dict[str, Any] | None) -> str:
    goal = (body or {}).get("goal")
    named = isinstance(goal, str) and goal.strip()
    return "record_invalid" if body is None or named or "specversion" in body else "goal_missing"


def _tenant_of(record: Record, deployment: str, policy: IntakePolicy) -> tuple[str | None, bool]:
    """Find whom to tell: nobody in particular if the record's tenant is unclear, and whether it contradicts itself."""
    named = next((raw for name, raw in record.headers if name.lower() == "ce_tenant" and raw), b"")
    topic = record.topic.removeprefix(f"{deployment}.") if deployment else record.topic
    try:
        return resolve_tenant(topic, named.decode(errors="replace") or None, policy), False
    except TenantMismatchError:
        return resolve_tenant(topic, None, policy), True
    except InvalidEventError:
        return None, False


def _read(value: bytes | None) -> dict[str, Any] | None:
    """Give the body's object, None if it is none."""
    try:
        body = json.loads(value or b"null")
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
