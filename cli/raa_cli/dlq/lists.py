"""Lists dead letters by their cause, and shows one of them or one cause in full."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from raa_cli.dlq.masking import readable
from raa_cli.dlq.scan import Filed, State, Wanted, letters, standings
from raa_cli.execute import CommandFailed
from raa_cli.output import print_json, print_rows
from raa_cli.session import Place, reading
from raa_cli.telling import printable, printable_text
from raa_runtime.deadletters import Letter
from raa_runtime.masking import MASK, is_secret, masked, masked_text

MOST_IDS: Final = 20
MOST_VALUE_CHARACTERS: Final = 20_000
MESSAGE_CHARACTERS: Final = 80


@dataclass
class Cause:
    """The letters of one group that died of one cause."""

    group: str
    fingerprint: str
    topic: str
    error_class: str
    message: str
    first: datetime
    last: datetime
    states: dict[State, int] = field(default_factory=lambda: {"open": 0, "redriven": 0, "edited": 0, "dropped": 0})

    def add(self, filed: Filed) -> None:
        """Count one."""
        self.states[filed.state] += 1
        if filed.letter:
            self.first = min(self.first, filed.letter.first_failed)
            if filed.letter.last_failed >= self.last:
                self.last, self.message = filed.letter.last_failed, filed.letter.message

    @property
    def count(self) -> int:
        """Count all of them."""
        return sum(self.states.values())

    def to_json(self) -> dict[str, Any]:
        """Write it for programs."""
        return {
            "fingerprint": self.fingerprint,
            "group": self.group,
            "topic": self.topic,
            "count": self.count,
            **{str(state): count for state, count in self.states.items()},
            "error_class": self.error_class,
            "message": masked_text(self.message),
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
        }


def cause_of(filed: Filed) -> Cause:
    """Begin to count a cause."""
    letter = filed.letter
    if letter is None:
        at = filed.record.timestamp
        return Cause(filed.group, filed.fingerprint, filed.record.topic, "corrupt", filed.corrupt, at, at)
    return Cause(
        letter.group,
        letter.fingerprint,
        letter.topic,
        letter.error_class,
        letter.message,
        letter.first_failed,
        letter.last_failed,
    )


@asynccontextmanager
async def filed(place: Place, wanted: Wanted) -> AsyncIterator[AsyncIterator[Filed]]:
    """Open a stream of the letters that are meant."""
    async with reading(place) as session:
        bus, deployment = session.client.bus, place.settings().deployment
        decided = await standings(bus, deployment)
        async with aclosing(letters(bus, deployment, wanted, decided)) as found:
            yield found


async def causes(found: AsyncIterator[Filed]) -> list[Cause]:
    """Group a stream of letters by their cause; those that wait for somebody first, the newest first."""
    counted: dict[tuple[str, str], Cause] = {}
    async for each in found:
        key = (each.group, each.fingerprint)
        if key not in counted:
            counted[key] = cause_of(each)
        counted[key].add(each)
    return sorted(counted.values(), key=lambda cause: (cause.states["open"] == 0, -cause.last.timestamp()))


async def ls(place: Place, wanted: Wanted, *, as_json: bool) -> None:
    """Print one line for each cause."""
    async with filed(place, wanted) as found:
        rows = await causes(found)
    if as_json:
        for cause in rows:
            print_json(cause.to_json())
        return
    if not rows:
        print("no dead letters" if wanted == Wanted() else "no dead letter matches")
        return
    print_rows(
        [_row(cause) for cause in rows],
        ["fingerprint", "group", "topic", "count", "open", "redriven", "dropped", "first", "last", "error"],
    )
    if any(cause.states["open"] for cause in rows):
        print("look closer with `raa dlq show FINGERPRINT`, then mend the cause and `raa dlq redrive --fingerprint …`")


def _row(cause: Cause) -> list[str]:
    states, message = cause.states, " ".join(masked_text(cause.message).split())
    cut = f"{message[:MESSAGE_CHARACTERS]}…" if len(message) > MESSAGE_CHARACTERS else message
    counts = [cause.count, states["open"], states["redriven"] + states["edited"], states["dropped"]]
    return [cause.fingerprint, cause.group, cause.topic, *map(str, counts), _time(cause.first), _time(cause.last),
            f"{cause.error_class}: {cut}"]  # fmt: skip


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


async def show(place: Place, name: str, *, as_json: bool) -> None:
    """Print a letter in full, or a cause: its newest letter, and which others there are."""
    matches: list[Filed] = []
    count, ids = 0, list[str]()
    async with filed(place, Wanted()) as found:
        async for each in found:
            if name in {each.id, each.fingerprint}:
                count, matches = count + 1, [each]
                ids = [*ids, f"{each.id}  {each.state}"][-MOST_IDS:]
                if each.id == name:
                    break
    if not matches:
        raise CommandFailed(f"there is no dead letter {name!r} and no such fingerprint; `raa dlq ls` lists them")
    newest = matches[-1]
    if as_json:
        print_json(to_json(newest) | ({"count": count} if newest.id != name else {}))
        return
    if newest.id != name:
        print(f"{count} letter{'' if count == 1 else 's'} of cause {name}; the newest:")
        for line in ids:
            print(printable(f"  {line}"))
        print()
    _print(newest)


def to_json(each: Filed) -> dict[str, Any]:
    """Write a letter for programs, without its secrets."""
    facts = {"id": each.id, "state": each.state, "decision": each.standing.to_json() if each.standing else None}
    letter = each.letter
    if letter is None:
        record = each.record
        return facts | {"corrupt": each.corrupt, "topic": record.topic, "offset": record.offset,
                        "value": _text(record.value), "headers": _headers(record.headers)}  # fmt: skip
    return facts | {
        **_facts(letter),
        "headers": _headers(letter.headers),
        "value": _value(letter.value),
    }


def _facts(letter: Letter) -> dict[str, Any]:
    return {
        "kind": letter.kind,
        "group": letter.group,
        "tenant": letter.tenant,
        "task": letter.task,
        "rejected_task": letter.answered,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": letter.timestamp.isoformat(),
        "key": _text(letter.key),
        "error_class": letter.error_class,
        "message": masked_text(letter.message),
        "fingerprint": letter.fingerprint,
        "attempts": letter.attempts,
        "first_failed": letter.first_failed.isoformat(),
        "last_failed": letter.last_failed.isoformat(),
        "version": letter.version,
        "trace": letter.trace,
        "follows": letter.parent,
        "redrives_before": letter.redrives,
    }


def _headers(headers: Any) -> dict[str, str | None]:
    return {name: MASK if is_secret(name) else _text(raw) for name, raw in headers}


def _value(raw: bytes | None) -> Any:
    try:
        return masked(json.loads(raw)) if raw else _text(raw)
    except (ValueError, RecursionError):
        return masked_text(_text(raw) or "")


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="backslashreplace")


def _print(each: Filed) -> None:
    print(printable(f"{each.id}  {each.state}"))
    if standing := each.standing:
        into = f" as task {standing.into}" if standing.into else ""
        because = f": {masked_text(standing.why)}" if standing.why else ""
        decided = f"{standing.action.replace('_', ' ')}{into} at {_time(standing.at)} by {standing.by}{because}"
        print(printable(f"  {decided}"))
        if standing.outcome:
            why = f": {masked_text(standing.reason)}" if standing.reason else ""
            print(printable(f"  it was {standing.outcome}{why}"))
    if each.letter is None:
        print(printable(f"  {each.corrupt}"))
        print(printable(f"  on {each.record.topic} at offset {each.record.offset}"))
        print(printable_text(readable(each.record.value, most_characters=MOST_VALUE_CHARACTERS)))
        return
    for name, value in _facts(each.letter).items():
        if value is not None:
            print(printable(" ".join(f"  {name:<16}{value}".splitlines())))
    for header, text in _headers(each.letter.headers).items():
        print(printable(f"  {'header':<16}{header}: {'(null)' if text is None else text}"))
    print(printable_text(readable(each.letter.value, most_characters=MOST_VALUE_CHARACTERS)))
