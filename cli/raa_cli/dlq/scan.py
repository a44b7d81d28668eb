"""Reads dead letters and what was decided about them from the bus alone, as streams: values are never all held."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from raa_client.observed import observe
from raa_client.observed import reading as reading_topics
from raa_runtime.bus.port import Bus, Record
from raa_runtime.deadletters import CorruptLetter, Letter, read_letter
from raa_runtime.redrive import Action, read_order
from raa_schemas.ids import derived_task_id, origin_key, owned
from raa_schemas.redrive import RedriveDone, RedriveOutcome
from raa_schemas.task import TaskCreated
from raa_schemas.topics import SERVICES, dead_letter_topic, redrive_topic, topic_of

State = Literal["open", "redriven", "edited", "dropped"]
STATES: Final[dict[Action, State]] = {
    "redrive": "redriven",
    "new_task": "redriven",
    "edit": "edited",
    "drop": "dropped",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest decision about a letter, and what came of it as far as that is known."""

    action: Action
    by: str
    at: datetime
    why: str = ""
    into: str | None = None
    outcome: RedriveOutcome | None = None
    reason: str = ""

    @property
    def state(self) -> State:
        """Name the state of its letter: one whose redrive was refused still waits for somebody."""
        return "open" if self.outcome == "refused" else STATES[self.action]

    def to_json(self) -> dict[str, Any]:
        """Write it for programs."""
        return {
            "action": self.action,
            "by": self.by,
            "at": self.at.isoformat(),
            "why": self.why,
            "into": self.into,
            "outcome": self.outcome,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Filed:
    """A record of a dead-letter topic: a letter, or what is wrong with a record that is none."""

    record: Record
    group: str
    letter: Letter | None
    corrupt: str = ""
    standing: Standing | None = None

    @property
    def id(self) -> str:
        """Name it."""
        return self.letter.id if self.letter else f"corrupt-{self.record.offset}"

    @property
    def fingerprint(self) -> str:
        """Name its cause."""
        return self.letter.fingerprint if self.letter else "corrupt"

    @property
    def state(self) -> State:
        """Say whether somebody still has to decide."""
        return self.standing.state if self.standing else "open"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters a command is about; None matches all.

    A submission that died is of the task its sender named, and of the one it was rejected as.
    """

    group: str | None = None
    fingerprint: str | None = None
    ids: frozenset[str] = field(default_factory=frozenset)
    tenant: str | None = None
    task: str | None = None
    only_open: bool = False

    @property
    def chooses(self) -> bool:
        """Say whether it is about certain letters, and not about all there are (of a tenant)."""
        return bool(self.group or self.fingerprint or self.ids or self.task)

    def matches(self, filed: Filed, deployment: str) -> bool:
        """Say whether this letter is meant."""
        letter = filed.letter
        return (
            self.group in {None, filed.group}
            and self.fingerprint in {None, filed.fingerprint}
            and (not self.ids or filed.id in self.ids)
            and self.tenant in {None, letter.tenant if letter else None}
            and (self.task is None or (letter is not None and self.task in _tasks_of(letter, deployment)))
            and not (self.only_open and filed.state != "open")
        )


def _tasks_of(letter: Letter, deployment: str) -> Iterator[str | None]:
    """Name the tasks a letter is about: a submission need not name one, and its body is not to be trusted."""
    yield letter.task
    yield letter.answered
    if letter.kind in {"record", "deferred"} and letter.topic.endswith(topic_of(TaskCreated).name):
        yield derived_task_id(origin_key(deployment, letter.topic, letter.partition, letter.offset, letter.timestamp))
        yield _named_in(letter.value)


def _named_in(value: bytes | None) -> str | None:
    try:
        body = json.loads(value or b"null")
    except (ValueError, RecursionError):
        return None
    named = body.get("task_id") if isinstance(body, dict) else None
    return named if isinstance(named, str) else None


async def standings(bus: Bus, deployment: str) -> dict[str, Standing]:
    """Read what was decided about each letter. Holds one small entry per decided letter."""
    found: dict[str, Standing] = {}
    decisions = [owned(deployment, redrive_topic(name)) for name in SERVICES]
    async with reading_topics(bus, decisions, from_beginning=True, follow=False) as records:
        async for record in records:
            try:
                letter, decision = read_order(record)
            except CorruptLetter:
                continue
            before = found.get(letter.id)
            if before is None or before.at <= decision.at:
                found[letter.id] = Standing(decision.action, decision.by, decision.at, decision.why, decision.into)
    outcomes = [owned(deployment, topic_of(RedriveDone).name)]
    async with reading_topics(bus, outcomes, from_beginning=True, follow=False) as records:
        async for record in records:
            _settle(found, record, deployment)
    return found


def _settle(found: dict[str, Standing], record: Record, deployment: str) -> None:
    observed = observe(record, deployment)
    if observed is None or not isinstance(observed.event, RedriveDone):
        return
    done = observed.event
    standing = found.get(done.letter)
    if standing is not None and observed.envelope.time >= standing.at:
        found[done.letter] = replace(standing, outcome=done.outcome, reason=done.reason)


async def letters(
    bus: Bus, deployment: str, wanted: Wanted, decided: Mapping[str, Standing]
) -> AsyncGenerator[Filed, None]:
    """Give the letters that are meant, each once, those of a group in the order they died. Holds their ids only."""
    groups = {owned(deployment, dead_letter_topic(name)): name for name in SERVICES if wanted.group in {None, name}}
    seen: set[tuple[str, str]] = set()
    async with reading_topics(bus, list(groups), from_beginning=True, follow=False) as records:
        async for record in records:
            filed = _file(record, groups[record.topic], decided)
            if (filed.group, filed.id) in seen:
                continue  # its process ended before it could note that it had written it
            seen.add((filed.group, filed.id))
            if wanted.matches(filed, deployment):
                yield filed


def _file(record: Record, group: str, decided: Mapping[str, Standing]) -> Filed:
    try:
        letter = read_letter(record)
    except CorruptLetter as problem:
        return Filed(record, group, None, str(problem))
    return Filed(record, group, letter, standing=decided.get(letter.id))
