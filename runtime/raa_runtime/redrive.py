"""Decisions about dead letters on their way to the group: how they are written, and how the group reads them."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, cast, get_args

from raa_runtime.bus.port import Message, Record
from raa_runtime.deadletters import CorruptLetter, Letter, encoded_facts, facts_of, read_letter
from raa_runtime.intake import Addressed, Intake
from raa_schemas.canonical import digest_bytes
from raa_schemas.envelope import Envelope, InvalidEventError
from raa_schemas.ids import derived_event_id, owned, task_aggregate
from raa_schemas.redrive import RedriveDone, RedriveOutcome
from raa_schemas.tenants import IntakePolicy
from raa_schemas.topics import redrive_topic, topic_of

Action = Literal["redrive", "edit", "drop", "new_task"]
MOST_WHY_CHARACTERS: Final = 2_000
_FACT: Final = "rd_"


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody wants done with a dead letter. `into` is the task that does its task again, if one does."""

    action: Action
    by: str
    at: datetime
    why: str = ""
    into: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A decision as it reached the group; `addressed` is the dead record, None if it still cannot be read."""

    letter: Letter
    decision: Decision
    addressed: Addressed | None = None
    unreadable: InvalidEventError | None = None

    @property
    def tenant(self) -> str | None:
        """Name the tenant."""
        return self.addressed.tenant if self.addressed else self.letter.tenant

    @property
    def task(self) -> str | None:
        """Name the task."""
        return self.addressed.envelope.subject if self.addressed else self.letter.task

    def done(self, outcome: RedriveOutcome, reason: str, *, deployment: str, at: datetime) -> list[Message]:
        """Build the event that says what became of it; none if it is about no task."""
        tenant, task = self.tenant, self.task
        if tenant is None or task is None:
            return []
        letter, told = self.letter, reason[:MOST_WHY_CHARACTERS]
        event = RedriveDone(task_id=task, group=letter.group, letter=letter.id, outcome=outcome, reason=told)
        identity = f"{deployment}|{letter.group}|redriven|{letter.id}|{outcome}|{self.decision.at.isoformat()}"
        envelope = Envelope(
            id=derived_event_id(identity),
            source=f"raa/{letter.group}",
            type=event.event_type(),
            time=at,
            subject=task,
            tenant=tenant,
            dataschema=event.schema_name(),
            causation_id=letter.event_id,
            traceparent=letter.trace,
        )
        key = task_aggregate(tenant, task).encode()
        return [Message(owned(deployment, topic_of(RedriveDone).name), key, event.to_json(), tuple(envelope.headers()))]


Taken = Addressed | Order


def order_message(letter: Letter, decision: Decision, *, deployment: str, aggregate: str | None) -> Message:
    """Write a decision for the group's own topic; records of one `aggregate` keep their order."""
    facts = {"action": decision.action, "by": decision.by, "at": decision.at.isoformat(),
             "why": decision.why[:MOST_WHY_CHARACTERS], "into": decision.into}  # fmt: skip
    told = tuple((f"{_FACT}{name}", text.encode()) for name, text in facts.items() if text is not None)
    original = tuple((name, raw or b"") for name, raw in letter.headers)
    headers = (*original, *encoded_facts(facts_of(letter, with_key=True)), *told)
    key = aggregate.encode() if aggregate else letter.key or letter.topic.encode()
    return Message(owned(deployment, redrive_topic(letter.group)), key, letter.value or b"", headers)


def read_order(record: Record) -> tuple[Letter, Decision]:
    """Read a decision and the letter it is about; raises CorruptLetter."""
    letter = read_letter(record)
    ours = record.headers[len(letter.headers) :]
    facts = {name.removeprefix(_FACT): (raw or b"").decode(errors="replace") for name, raw in ours}
    try:
        return letter, Decision(
            _action(facts["action"]),
            facts["by"],
            datetime.fromisoformat(facts["at"]),
            facts.get("why", ""),
            facts.get("into"),
        )
    except KeyError as problem:
        raise CorruptLetter(f"no decision: the header {_FACT}{problem.args[0]} is missing") from None
    except ValueError as problem:
        raise CorruptLetter(f"no decision: {problem}") from None


def _action(text: str) -> Action:
    if text not in get_args(Action):
        raise ValueError(f"{text[:40]!r} is nothing that can be done with a dead letter")
    return cast("Action", text)


def edited(letter: Letter, envelope: Envelope, value: bytes) -> Letter:
    """Make the letter's event a new one with another value, which cites the old one as its cause."""
    old = letter.event_id or envelope.id
    fresh = replace(
        envelope,
        id=derived_event_id(f"edited|{letter.id}|{digest_bytes(value)}"),
        causation_id=old,
    )
    return replace(letter, value=value, headers=tuple(fresh.headers()))


class GroupIntake(Intake):
    """Read the records of one group, its redrives included."""

    def __init__(self, deployment: str, policy: IntakePolicy, group: str) -> None:
        super().__init__(deployment, policy)
        self.redrives = owned(deployment, redrive_topic(group))

    def take(self, record: Record) -> Taken:
        """Read an event, or a decision about a dead one; raises InvalidEventError."""
        if record.topic != self.redrives:
            return self.address(record)
        try:
            letter, decision = read_order(record)
        except CorruptLetter as problem:
            raise InvalidEventError(str(problem)) from None
        if letter.kind not in {"record", "deferred"}:
            return Order(letter, decision)
        try:
            return Order(letter, decision, self.address(letter.record))
        except InvalidEventError as problem:
            return Order(letter, decision, unreadable=problem)
        except KeyError:
            return Order(letter, decision, unreadable=InvalidEventError(f"there is no topic {letter.topic!r}"))
