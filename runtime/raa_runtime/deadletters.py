"""Dead letters: the original bytes, key and headers, and everything needed to understand and redrive them."""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Final, Literal, cast, get_args

from raa_runtime.bus.port import Headers, Message, Record
from raa_runtime.errors import PermanentError
from raa_schemas.envelope import Envelope
from raa_schemas.ids import derived_event_id, is_task_id, is_tenant_id, owned, task_aggregate
from raa_schemas.task import TaskStalled
from raa_schemas.topics import dead_letter_topic, topic_of

Cause = Literal["record", "deferred", "outbox", "aggregate"]
STALLS_TASKS: Final = frozenset({"planner", "safety", "executor", "reflector"})
"""The groups without whose events a task does not go on."""

MOST_MESSAGE_CHARACTERS: Final = 4_000
_VARYING: Final = re.compile(r"[0-9a-f]{8,}|\d+|'[^']*'")
_FACT: Final = "dl_"


class CorruptLetter(PermanentError):
    """A record on a dead-letter topic that is no dead letter."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What died: the record as it was, where it lay, and why.

    `timestamp` is the record's own. `parent` is the dead letter whose redrive died, `redrives` counts those before it.
    `answered` is the task that ended as rejected by it.
    """

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
    timestamp: datetime | None = None
    parent: str | None = None
    redrives: int = 0
    answered: str | None = None

    @property
    def error_class(self) -> str:
        """Name the error."""
        return type(self.problem).__name__

    @property
    def trace(self) -> str | None:
        """Give the W3C trace context the record came with."""
        return _text_of(self.headers, "traceparent")

    @property
    def fingerprint(self) -> str:
        """Group equal causes: group, topic, error class and the message without numbers, ids and quoted text."""
        shape = _VARYING.sub("#", str(self.problem))
        return _digest(f"{self.group}|{self.topic}|{self.error_class}|{shape}")

    def letter_id(self, deployment: str) -> str:
        """Name the letter: the same whenever the same record dies again without a redrive in between."""
        return _digest(f"{deployment}|{self.group}|{self._died()}|{self.redrives}|{self.parent or ''}")

    def _died(self) -> str:
        """Name what died, by where it came from."""
        if self.kind == "outbox":
            return f"outbox|{self.topic}|{_text_of(self.headers, 'ce_id')}"
        if self.kind == "aggregate":
            return f"aggregate|{self.topic}|{self.key!r}|{self.first_failed.isoformat()}"
        return f"{self.topic}|{self.partition}|{self.offset}|{(self.timestamp or self.first_failed).isoformat()}"

    def message(self, deployment: str) -> Message:
        """Build the record for the group's dead-letter topic."""
        letter = self.letter(deployment)
        original = tuple((name, raw or b"") for name, raw in self.headers)
        topic = owned(deployment, dead_letter_topic(self.group))
        return Message(topic, self.key or b"", self.value or b"", original + encoded_facts(facts_of(letter)))

    def letter(self, deployment: str) -> "Letter":
        """Give it as it will be read."""
        return Letter(
            self.letter_id(deployment),
            self.kind,
            self.group,
            self.topic,
            self.partition,
            self.offset,
            self.timestamp or self.first_failed,
            self.key,
            self.value,
            self.headers,
            self.error_class,
            str(self.problem)[:MOST_MESSAGE_CHARACTERS],
            self.fingerprint,
            self.attempts,
            self.first_failed,
            self.last_failed,
            _version(),
            self.trace,
            self.parent,
            self.redrives,
            self.answered,
        )

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
            letter=self.letter_id(deployment),
            fingerprint=self.fingerprint,
        )
        envelope = Envelope(
            id=derived_event_id(f"{deployment}|{self.group}|stalled|{event.letter}"),
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

    def stalled_by_headers(self, deployment: str) -> list[Message]:
        """Build the same for a record whose headers alone are known, if a task they name cannot go on without it."""
        letter = self.letter(deployment)
        if self.group not in STALLS_TASKS or letter.tenant is None or letter.task is None:
            return []
        dead_type = _text_of(self.headers, "ce_type") or self.topic
        return [self.stalled(deployment, letter.tenant, letter.task, dead_type, letter.event_id)]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it was read back from its topic; an absent key, value or header is None."""

    id: str
    kind: Cause
    group: str
    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers
    error_class: str
    message: str
    fingerprint: str
    attempts: int
    first_failed: datetime
    last_failed: datetime
    version: str
    trace: str | None
    parent: str | None
    redrives: int
    answered: str | None

    @property
    def record(self) -> Record:
        """Give the record back as it lay on the bus."""
        return Record(self.topic, self.partition, self.offset, self.timestamp, self.key, self.value, self.headers)

    @property
    def tenant(self) -> str | None:
        """Name the tenant the record says it is of."""
        return self._aggregate[0] or self._named("ce_tenant", is_tenant_id)

    @property
    def task(self) -> str | None:
        """Name the task the record says it is about."""
        return self._aggregate[1] or self._named("ce_subject", is_task_id)

    @property
    def event_id(self) -> str | None:
        """Give the event id the record came with."""
        return _text_of(self.headers, "ce_id")

    @property
    def _aggregate(self) -> tuple[str | None, str | None]:
        if self.kind != "aggregate":
            return None, None
        tenant, _, rest = (self.key or b"").decode(errors="replace").partition("/")
        return tenant or None, rest.partition("/")[0] or None

    def _named(self, header: str, fits: Callable[[str], bool]) -> str | None:
        text = _text_of(self.headers, header)
        return text if text and fits(text) else None


def read_letter(record: Record) -> Letter:
    """Read a dead letter; raises CorruptLetter saying what is wrong with it."""
    count, facts = _split(record.headers)
    try:
        absent = frozenset(filter(None, facts.get("absent", "").split(",")))
        first_failed = _instant(facts["first_failed"])
        key = b64decode(facts["key_base64"]) if "key_base64" in facts else record.key
        return Letter(
            id=facts.get("id") or _digest(f"{record.topic}|{record.partition}|{record.offset}"),
            kind=_kind(facts["kind"]),
            group=facts["group"],
            topic=facts["topic"],
            partition=int(facts["partition"]),
            offset=int(facts["offset"]),
            timestamp=_instant(facts["timestamp"]) if "timestamp" in facts else first_failed,
            key=None if "key" in absent else key,
            value=None if "value" in absent else record.value,
            headers=tuple(
                (name, None if str(place) in absent else raw or b"")
                for place, (name, raw) in enumerate(record.headers[:count])
            ),
            error_class=facts["error_class"],
            message=facts["message"],
            fingerprint=facts["fingerprint"],
            attempts=int(facts["attempts"]),
            first_failed=first_failed,
            last_failed=_instant(facts["last_failed"]),
            version=facts["version"],
            trace=facts.get("trace"),
            parent=facts.get("parent"),
            redrives=int(facts.get("redrives", "0")),
            answered=facts.get("answered"),
        )
    except KeyError as problem:
        raise CorruptLetter(f"no dead letter: the header {_FACT}{problem.args[0]} is missing") from None
    except (ValueError, OverflowError) as problem:
        raise CorruptLetter(f"no dead letter: {problem}") from None


def facts_of(letter: Letter, *, with_key: bool = False) -> dict[str, str | None]:
    """Give what a letter says about itself beside the original; `with_key` where the record's key is another one."""
    return {
        "id": letter.id,
        "kind": letter.kind,
        "group": letter.group,
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "timestamp": letter.timestamp.isoformat(),
        "error_class": letter.error_class,
        "message": letter.message,
        "fingerprint": letter.fingerprint,
        "attempts": str(letter.attempts),
        "first_failed": letter.first_failed.isoformat(),
        "last_failed": letter.last_failed.isoformat(),
        "version": letter.version,
        "trace": letter.trace,
        "parent": letter.parent,
        "redrives": str(letter.redrives),
        "answered": letter.answered,
        "key_base64": _packed(letter.key, always=with_key),
        "absent": ",".join(_absent(letter.key, letter.value, letter.headers)),
        "headers": str(len(letter.headers)),
    }


def encoded_facts(facts: Mapping[str, str | None]) -> tuple[tuple[str, bytes], ...]:
    """Write facts as the headers that follow the original ones."""
    return tuple((f"{_FACT}{name}", text.encode(errors="replace")) for name, text in facts.items() if text is not None)


def _split(headers: Headers) -> tuple[int, dict[str, str]]:
    """Tell the original headers (how many) from the facts, whatever a sender called its own headers."""
    told = next((raw for name, raw in reversed(headers) if name == f"{_FACT}headers" and raw), None)
    if told is not None and told.isdigit() and int(told) < len(headers):
        count = int(told)
    else:  # a letter of an earlier release
        count = next((place for place, (name, _) in enumerate(headers) if name == f"{_FACT}kind"), len(headers))
    facts = {name.removeprefix(_FACT): (raw or b"").decode(errors="replace") for name, raw in headers[count:]}
    return count, facts


def _absent(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Iterator[str]:
    if key is None:
        yield "key"
    if value is None:
        yield "value"
    for place, (_, raw) in enumerate(headers):
        if raw is None:
            yield str(place)


def _packed(key: bytes | None, *, always: bool) -> str | None:
    """Write a key that the record's own key cannot hold: another one is there, or an outbox, which holds text."""
    if key is None:
        return None
    try:
        key.decode()
    except UnicodeDecodeError:
        always = True
    return b64encode(key).decode() if always else None


def _kind(text: str) -> Cause:
    if text not in get_args(Cause):
        raise ValueError(f"{text[:40]!r} is no kind of dead letter")
    return cast("Cause", text)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _text_of(headers: Headers, name: str) -> str | None:
    return next((raw.decode(errors="replace") for each, raw in headers if each.lower() == name and raw), None)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


@cache
def _version() -> str:
    return version("raa-runtime")
