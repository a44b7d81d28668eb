"""Dead letters: the original bytes, key and headers, and everything needed to understand and redrive them."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Literal

from raa_runtime.bus.port import Headers, Message
from raa_schemas.envelope import Envelope
from raa_schemas.ids import derived_event_id, owned, task_aggregate
from raa_schemas.task import TaskStalled
from raa_schemas.topics import dead_letter_topic, topic_of

Cause = Literal["record", "deferred", "outbox", "aggregate"]
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+|'[^']*'")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What died: the record as it was, where it lay, and why."""

    kind: Cause
    group: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    problem: Exception
    attempts: int
    first_failed: datetime
    last_failed: datetime
    trace: str | None = None

    @property
    def error_class(self) -> str:
        """Name the error."""
        return type(self.problem).__name__

    @property
    def fingerprint(self) -> str:
        """Group equal causes: group, topic, error class and the message without numbers, ids and quoted text."""
        shape = _VARYING.sub("#", str(self.problem))
        return hashlib.sha256(f"{self.group}|{self.topic}|{self.error_class}|{shape}".encode()).hexdigest()[:16]

    def message(self, deployment: str) -> Message:
        """Build the record for the group's dead-letter topic."""
        facts = {
            "dl_kind": self.kind,
            "dl_group": self.group,
            "dl_topic": self.topic,
            "dl_partition": str(self.partition),
            "dl_offset": str(self.offset),
            "dl_error_class": self.error_class,
            "dl_message": str(self.problem)[:4_000],
            "dl_fingerprint": self.fingerprint,
            "dl_attempts": str(self.attempts),
            "dl_first_failed": self.first_failed.isoformat(),
            "dl_last_failed": self.last_failed.isoformat(),
            "dl_version": version("raa-runtime"),
        }
        original = tuple((name, raw or b"") for name, raw in self.headers)
        added = tuple((name, text.encode()) for name, text in facts.items())
        topic = owned(deployment, dead_letter_topic(self.group))
        return Message(topic, self.key or b"", self.value or b"", original + added)

    def stalled(self, deployment: str, tenant: str, task: str, dead_type: str, dead_id: str | None) -> Message:
        """Build the event that tells the planner which task waits for a redrive."""
        event = TaskStalled(
            task_id=task,
            group=self.group,
            dead_letter_topic=owned(deployment, dead_letter_topic(self.group)),
            dead_type=dead_type,
            dead_id=dead_id,
            error_class=self.error_class,
            message=str(self.problem)[:2_000],
        )
        envelope = Envelope(
            id=derived_event_id(f"{deployment}|{self.group}|stalled|{self.topic}|{self.partition}|{self.offset}"),
            source=f"raa/{self.group}",
            type=event.event_type(),
            time=self.last_failed,
            subject=task,
            tenant=tenant,
            dataschema=event.schema_name(),
            causation_id=dead_id,
            traceparent=self.trace,
        )
        name = owned(deployment, topic_of(TaskStalled).name)
        return Message(name, task_aggregate(tenant, task).encode(), event.to_json(), tuple(envelope.headers()))
