"""Names of things: tenants, tasks, steps, aggregates, and the event ids that are derived from them."""

import re
import uuid
from datetime import datetime
from hashlib import sha1
from typing import NewType

TenantId = NewType("TenantId", str)
TaskId = NewType("TaskId", str)
StepId = NewType("StepId", str)
EventId = NewType("EventId", str)
LessonId = NewType("LessonId", str)
AggregateId = NewType("AggregateId", str)

DEFAULT_TENANT = TenantId("default")
TASK_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
TENANT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
STEP_ID_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
STEP_PATH_PATTERN = r"^v[1-9][0-9]{0,8}/[A-Za-z][A-Za-z0-9_-]{0,63}$"
DEPLOYMENT_PATTERN = r"^([a-z0-9][a-z0-9-]{0,31})?$"

# uuid5 of the project's name in the DNS namespace; fixed for ever, because event ids are compared across releases.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "reflective-adaptive-agent")
_NAMESPACE_BYTES = _NAMESPACE.bytes
_TASK_ID = re.compile(TASK_ID_PATTERN)
_TENANT = re.compile(TENANT_PATTERN)


def is_task_id(text: str) -> bool:
    """Say whether `text` may name a task: 1 to 128 characters out of letters, digits and `._:-`."""
    return _TASK_ID.fullmatch(text) is not None


def is_tenant_id(text: str) -> bool:
    """Say whether `text` may name a tenant: 1 to 63 characters out of a-z, 0-9, `_` and `-`."""
    return _TENANT.fullmatch(text) is not None


def is_step_path(text: str) -> bool:
    """Say whether `text` names a step within its task: `v<plan_version>/<step>`."""
    return re.fullmatch(STEP_PATH_PATTERN, text) is not None


def owned(deployment: str, name: str) -> str:
    """Prefix a name on shared infrastructure with its deployment; the main deployment is the empty string."""
    return f"{deployment}.{name}" if deployment else name


def task_aggregate(tenant: str, task: str) -> AggregateId:
    """Name the aggregate of a task, the same in every service that keeps one."""
    return AggregateId(f"{tenant}/{task}")


def step_path(plan_version: int, step: str) -> str:
    """Name a step within its task: `v<plan_version>/<step>`, the value of the header `ce_step`."""
    return f"v{plan_version}/{step}"


def step_aggregate(tenant: str, task: str, path: str) -> AggregateId:
    """Name the aggregate of one step of one plan version; `path` comes from `step_path`."""
    return AggregateId(f"{tenant}/{task}/{path}")


def tenant_of(aggregate: str) -> TenantId:
    """Read the tenant out of an aggregate id."""
    return TenantId(aggregate.partition("/")[0])


def event_id(deployment: str, service: str, aggregate: str, event_type: str, counter: int) -> EventId:
    """Derive an event's id from its natural key; `counter` numbers the events of the aggregate, from 1."""
    return EventId(_uuid5(f"{deployment}|{service}|{aggregate}|{event_type}|{counter}"))


def _uuid5(name: str) -> str:
    """Give `str(uuid.uuid5(_NAMESPACE, name))` at a fifth of its cost, which every event pays."""
    digest = sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def origin_key(deployment: str, topic: str, partition: int, offset: int, timestamp: datetime) -> str:
    """Name a record by where it lies; with the timestamp, because a topic may be made again with the same offsets."""
    return f"{deployment}|{topic}|{partition}|{offset}|{int(timestamp.timestamp() * 1000)}"


def derived_event_id(origin: str) -> EventId:
    """Derive the event id of a record that names none; `origin` comes from `origin_key`."""
    return EventId(_uuid5(f"event|{origin}"))


def derived_task_id(origin: str) -> TaskId:
    """Derive the task id of a record that names none; `origin` comes from `origin_key`."""
    return TaskId("task-" + uuid.uuid5(_NAMESPACE, f"task|{origin}").hex[:20])
