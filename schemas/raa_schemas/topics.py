"""Every topic in one declaration: its event, who writes and reads it, key, retention and whether it is public."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from raa_schemas.action import ActionDecided, ActionProposed
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.cancel import CancelRequested
from raa_schemas.event import Event
from raa_schemas.ids import AggregateId, step_aggregate, task_aggregate
from raa_schemas.plan import PlanProposed, PlanReady, PlanRejected
from raa_schemas.redrive import RedriveDone
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepCancel, StepDone, StepFinished, StepReady, StepStarted
from raa_schemas.task import TaskCreated, TaskDone, TaskStalled, TaskStatus
from raa_schemas.usage import UsageRecorded

DEAD_LETTER_EXTRA_BYTES: Final = 65_536
MAX_MESSAGE_BYTES: Final = 1_048_576 + 65_536
LAPTOP_PARTITIONS: Final = 6
PRODUCTION_PARTITIONS: Final = 60
TENANT_PREFIX: Final = "tenants"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. Records are keyed by the aggregate they are for, so that they stay in order.

    The first of `readers` owns the dead letters of records that a client wrote and nobody can read.
    """

    event: type[Event]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    public: bool = False
    aggregate: Literal["task", "step"] = "task"
    compacted: bool = False
    retention: timedelta = timedelta(days=7)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the topic, which is the event's type."""
        object.__setattr__(self, "name", self.event.event_type())

    def aggregate_id(self, tenant: str, task: str, step: str | None) -> AggregateId:
        """Derive the aggregate of a record from its subject and, for step topics, its `ce_step`."""
        if self.aggregate == "step" and step:
            return step_aggregate(tenant, task, step)
        return task_aggregate(tenant, task)


_CLIENT_WRITTEN = timedelta(days=14)

TOPICS: Final[dict[str, Topic]] = {
    topic.name: topic
    for topic in (
        Topic(TaskCreated, ("client",), ("planner", "reflector"), public=True, retention=_CLIENT_WRITTEN),
        Topic(PlanProposed, ("planner",), ("safety",)),
        Topic(PlanReady, ("safety",), ("executor", "planner", "reflector"), public=True),
        Topic(PlanRejected, ("safety",), ("planner",)),
        Topic(StepReady, ("executor",), ("executor",), aggregate="step"),
        Topic(StepCancel, ("executor",), ("executor",), aggregate="step"),
        Topic(StepFinished, ("executor",), ("executor",)),
        Topic(StepStarted, ("executor",), (), public=True),
        Topic(StepDone, ("executor",), ("planner", "reflector"), public=True),
        Topic(ActionProposed, ("executor",), ("safety",)),
        Topic(ActionDecided, ("safety",), ("executor",), aggregate="step"),
        Topic(ApprovalRequested, ("safety",), ("planner",), public=True),
        Topic(ApprovalDecided, ("client",), ("safety", "planner"), public=True, retention=_CLIENT_WRITTEN),
        Topic(ReflectionDone, ("reflector",), ("planner", "memory"), public=True),
        Topic(TaskStatus, ("planner",), (), public=True, compacted=True),
        Topic(TaskDone, ("planner",), (), public=True),
        Topic(TaskStalled, ("planner", "safety", "executor", "reflector"), ("planner",)),
        Topic(RedriveDone, ("planner", "safety", "executor", "reflector", "memory", "router"), ("planner",)),
        Topic(CancelRequested, ("client", "planner"), ("planner", "executor", "safety", "reflector"), public=True),
        Topic(UsageRecorded, ("router",), (), public=True),
    )
}

SERVICES: Final = ("planner", "executor", "reflector", "memory", "router", "safety")


_TOPIC_OF: Final = {topic.event: topic for topic in TOPICS.values()}


def topic_of(event: type[Event]) -> Topic:
    """Find the declaration of an event's topic."""
    return _TOPIC_OF[event]


def dead_letter_topic(group: str) -> str:
    """Name the dead-letter topic of a consumer group."""
    return f"{group}.dlq"


def redrive_topic(group: str) -> str:
    """Name the topic that brings a consumer group its dead letters back, each with somebody's decision.

    Its records are dead letters with further headers, written by clients and read by this group alone.
    """
    return f"{group}.redrive"


def tenant_topic(tenant: str, event: type[Event]) -> str:
    """Name the topic of one tenant for an event it may write or read: `tenants.<t>.task.created`."""
    return f"{TENANT_PREFIX}.{tenant}.{event.event_type()}"
