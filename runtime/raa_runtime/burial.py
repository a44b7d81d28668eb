"""How what cannot be handled becomes a dead letter, and who is told of it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json

from raa_runtime.bus.port import Message, Record
from raa_runtime.deadletters import STALLS_TASKS, DeadLetter
from raa_runtime.deferral import as_record
from raa_runtime.errors import PermanentError
from raa_runtime.intake import Addressed, Intake
from raa_runtime.redrive import Order
from raa_runtime.state.aggregate import Deferred, Entry
from raa_runtime.unit import Completed, Unit
from raa_runtime.unit_of_work import UnitOfWork
from raa_schemas.envelope import InvalidEventError
from raa_schemas.errors import error
from raa_schemas.ids import owned
from raa_schemas.redrive import RedriveDone, RedriveOutcome
from raa_schemas.task import TaskStalled, TaskStatus
from raa_schemas.topics import dead_letter_topic

# a dead letter of an aggregate shows so much of its state; the aggregate itself stays in the store
MOST_STATE_SHOWN_BYTES: Final = 64_000
MOST_KEPT_BYTES: Final = 64_000
Rejection = Callable[[Record, str], Message | None]


@dataclass(frozen=True, slots=True)
class Burial:
    """Make the dead letters of one group. Its coroutines return once the letter is durable."""

    service: str
    work: UnitOfWork
    intake: Intake
    rejections: Rejection | None
    count: Callable[[str, str], None]

    async def poison(self, record: Record, problem: InvalidEventError, at: datetime) -> None:
        """Turn a record that is no event into one dead letter, and tell an intake client in words."""
        if not self._is_anothers(record):
            letter = self._letter(record, problem, 1, at, None)
            await self._bury(letter, None, self._stalled(letter))

    async def redriven(self, order: Order, problem: Exception, at: datetime) -> None:
        """Make a letter of one that died again before it could be read, or that the bus refused again."""
        letter = self._letter(order.letter.record, problem, 1, at, order)
        await self._bury(letter, order, self._stalled(letter))

    async def event(
        self, addressed: Addressed, problem: Exception, tries: int, begun: datetime, order: Order | None
    ) -> None:
        """Turn an event that cannot be handled into a dead letter that stalls its task."""
        record, envelope = addressed.record, addressed.envelope
        if order is None and isinstance(problem, InvalidEventError) and self._is_anothers(record):
            return
        letter = self._letter(record, problem, tries, begun, order)
        stalled = []
        handled = not isinstance(problem, InvalidEventError)
        if self.service in STALLS_TASKS and letter.answered is None and not (handled and _tells(envelope.type)):
            deployment, subject = self.work.deployment, envelope.subject
            stalled = [letter.stalled(deployment, addressed.tenant, subject, envelope.type, envelope.id)]
        await self._bury(letter, order, stalled)

    def _stalled(self, letter: DeadLetter) -> list[Message]:
        """Stall the task that the headers of one of our own records name; a client may name any task."""
        topic = self.intake.find(letter.topic)
        if topic is None or "client" in topic.writers:
            return []
        return letter.stalled_by_headers(self.work.deployment)

    async def _bury(self, letter: DeadLetter, order: Order | None, more: list[Message]) -> None:
        record = Record(
            letter.topic, letter.partition, letter.offset, letter.timestamp or letter.first_failed, letter.key,
            letter.value, letter.headers,
        )  # fmt: skip
        self.work.log.error(
            "dead_letter",
            kind=letter.kind,
            topic=letter.topic,
            partition=letter.partition,
            offset=letter.offset,
            reason=str(letter.problem),
            letter=letter.letter_id(self.work.deployment),
            fingerprint=letter.fingerprint,
        )
        self.count(letter.topic, "dead_letter")
        await self.work.bury(letter, *more, *self._told(order, letter))
        if letter.answered is not None and order is None:
            await self._reject(record, str(letter.problem))

    def _told(self, order: Order | None, letter: DeadLetter) -> list[Message]:
        if order is None:
            return []
        deployment = self.work.deployment
        return order.done(
            "failed",
            f"dead letter {letter.letter_id(deployment)}: {letter.problem}",
            deployment=deployment,
            at=letter.last_failed,
        )

    def _is_anothers(self, record: Record) -> bool:
        """Say whether a broken record of a client is the dead letter of the topic's first reader, so that it is one."""
        topic = self.intake.find(record.topic)
        if topic is None or topic.writers != ("client",) or topic.readers[0] == self.service:
            return False
        self.count(topic.name, "skipped")
        return True

    def _answer(self, record: Record, problem: Exception) -> Message | None:
        """Give the end of a task that cannot be one; a valid task that met a defect of ours has not ended."""
        if self.rejections is None or not isinstance(problem, InvalidEventError | PermanentError):
            return None
        topic = self.intake.find(record.topic)
        return self.rejections(record, str(problem)) if topic and topic.name == "task.created" else None

    async def _reject(self, record: Record, reason: str) -> None:
        message = self.rejections(record, reason) if self.rejections else None
        if message is not None:
            await self.work.send([message])

    def _letter(
        self, record: Record, problem: Exception, tries: int, begun: datetime, order: Order | None
    ) -> DeadLetter:
        answer = self._answer(record, problem) if order is None else None
        subject = next((raw for name, raw in answer.headers if name == "ce_subject"), b"").decode() if answer else None
        before = order.letter if order else None
        return DeadLetter(
            before.kind if before else "record",
            self.service,
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            record.headers,
            problem,
            tries + (before.attempts if before else 0),
            before.first_failed if before else begun,
            self.work.clock.now(),
            record.timestamp,
            before.id if before else None,
            before.redrives + 1 if before else 0,
            before.answered if before else subject,
        )

    # within a unit of work

    def quarantine(self, unit: Unit[Any], problem: Exception, lost: Completed | None = None) -> None:
        """Set an aggregate aside with a dead letter; `lost` is the outcome that it could not take.

        The outcome is kept, so that a redrive hands it over instead of doing the work again.
        """
        before, unit.aggregate.quarantined = unit.aggregate.quarantined, True
        kept = lost is not None and keep_outcome(unit, lost)
        if before:
            if not kept:
                unit.ignore("it waits for its redrive already")
            return
        letter = self.aggregate_letter(unit, problem)
        self._put(unit, letter, unit.kind.name, None)
        if self.service == "planner":  # it cannot tell itself by task.stalled any more
            deployment = self.work.deployment
            where = owned(deployment, dead_letter_topic(self.service))
            unit.publish(
                TaskStatus(
                    task_id=unit.task_id,
                    state="stalled",
                    waiting_for=f"a redrive of {unit.kind.name} {letter.letter_id(deployment)} from {where}",
                )
            )

    def aggregate_letter(self, unit: Unit[Any], problem: Exception, order: Order | None = None) -> DeadLetter:
        """Make the letter of an aggregate, which shows its state."""
        shown = unit.state.model_dump_json().encode()
        if len(shown) > MOST_STATE_SHOWN_BYTES:
            shown = json.dumps({"aggregate": unit.id, "kind": unit.kind.name, "state_bytes": len(shown)}).encode()
        before = order.letter if order else None
        return DeadLetter(
            "aggregate",
            self.service,
            unit.kind.name,
            -1,
            -1,
            unit.id.encode(),
            shown,
            (),
            problem,
            unit.aggregate.wake_tries,
            before.first_failed if before else unit.now,
            unit.now,
            None,
            before.id if before else None,
            before.redrives + 1 if before else 0,
        )

    async def aggregate(self, unit: Unit[Any], problem: Exception, order: Order) -> None:
        """Make a new letter of an aggregate that could not be taken out of quarantine."""
        letter = self.aggregate_letter(unit, problem, order)
        more = []
        if self.service in STALLS_TASKS and self.service != "planner":
            more = [letter.stalled(self.work.deployment, unit.tenant, unit.task_id, unit.kind.name, None)]
        await self._bury(letter, order, more)

    def deferred(self, unit: Unit[Any], head: Deferred, why: Exception) -> None:
        """Turn an event that was deferred too often into a dead letter."""
        record = as_record(head)
        letter = DeadLetter(
            "deferred",
            self.service,
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            record.headers,
            why,
            head.tries,
            datetime.fromtimestamp(head.first_failed, UTC),
            unit.now,
            record.timestamp,
            head.letter,
            head.redrives,
        )
        topic = self.intake.find(record.topic)
        self._put(unit, letter, topic.name if topic else record.topic, head.event_id)
        if head.letter is not None:
            self.tell(unit, head.letter, "failed", str(why))

    def tell(self, unit: Unit[Any], letter: str, outcome: RedriveOutcome, reason: str = "") -> None:
        """Publish, with what the unit stores, what became of a redrive."""
        event = RedriveDone(
            task_id=unit.task_id, group=self.service, letter=letter, outcome=outcome, reason=reason[:2_000]
        )
        unit.publish(event)

    def _put(self, unit: Unit[Any], letter: DeadLetter, dead_type: str, dead_id: str | None) -> None:
        deployment = self.work.deployment
        messages = [letter.message(deployment)]
        untold = _tells(dead_type) or (letter.kind == "aggregate" and self.service == "planner")
        if self.service in STALLS_TASKS and not untold:
            messages.append(letter.stalled(deployment, unit.tenant, unit.task_id, dead_type, dead_id))
        for number, message in enumerate(messages):
            unit.aggregate.counter += 1
            unit.aggregate.outbox.append(
                Entry(
                    f"{letter.letter_id(deployment)}-{unit.aggregate.counter}-{number}",
                    message.topic,
                    message.key.decode(errors="replace"),  # its own bytes travel in a header
                    [(name, raw.decode()) for name, raw in message.headers],
                    message.value.decode(),
                )
            )
        self.work.log.error(
            "dead_letter",
            kind=letter.kind,
            aggregate=unit.id,
            reason=str(letter.problem),
            letter=letter.letter_id(deployment),
            fingerprint=letter.fingerprint,
        )


def _tells(dead_type: str) -> bool:
    """Say whether it is the news of a dead letter that died: news of that would die as well, without end."""
    return dead_type == TaskStalled.event_type()


def keep_outcome(unit: Unit[Any], lost: Completed) -> bool:
    """Keep the outcome of an activity with its intent; a huge one only if nobody may simply do the work again."""
    activity = unit.aggregate.activities.get(lost.activity_id)
    if activity is None or activity.epoch != lost.epoch:
        return False
    if len(to_json(asdict(lost))) <= MOST_KEPT_BYTES:
        activity.kept = asdict(lost)
    elif activity.effect in {"once", "checkable"}:
        too_large = error("too_large", f"{lost.kind} is done; its result was too large to keep until the redrive")
        activity.kept = asdict(replace(lost, outcome="failed", result=None, error=too_large))
    return activity.kept is not None
