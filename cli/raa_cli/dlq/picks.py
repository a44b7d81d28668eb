"""Picks the letters that a decision is about, in the order in which their records lay, without holding their values."""

import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from raa_cli.dlq.scan import Filed, Standing
from raa_runtime.bus.port import Headers, Record
from raa_runtime.deadletters import Letter, read_letter
from raa_runtime.redrive import Decision


@dataclass(frozen=True, slots=True)
class Pick:
    """A letter that was picked: what is needed to judge it, and where it is kept."""

    number: int
    id: str
    group: str
    kind: str
    topic: str
    partition: int
    offset: int
    tenant: str | None
    task: str | None
    answered: str | None
    standing: Standing | None


class Picks:
    """Letters on disk, in a file that goes with the block."""

    def __init__(self) -> None:
        self.listed: list[Pick] = []
        self.corrupt: list[str] = []

    def __enter__(self) -> Self:
        self._file = sqlite3.connect("")  # a temporary file of SQLite's own, removed when it closes
        self._file.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, topic, offset, at, key, value)")
        self._file.execute("CREATE TABLE headers (number, place, name, value, PRIMARY KEY (number, place))")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def fill(self, found: AsyncIterator[Filed]) -> None:
        """Take the letters of a stream."""
        async for filed in found:
            if filed.letter is None:
                self.corrupt.append(filed.id)
            else:
                self._add(filed, filed.letter)
        self.listed = in_order(self.listed)

    def _add(self, filed: Filed, letter: Letter) -> None:
        number, record = len(self.listed), filed.record
        self._file.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
            (number, record.topic, record.offset, record.timestamp.isoformat(), record.key, record.value),
        )
        self._file.executemany(
            "INSERT INTO headers VALUES (?, ?, ?, ?)",
            [(number, place, name, raw) for place, (name, raw) in enumerate(record.headers)],
        )
        self.listed.append(
            Pick(
                number,
                letter.id,
                letter.group,
                letter.kind,
                letter.topic,
                letter.partition,
                letter.offset,
                letter.tenant,
                letter.task,
                letter.answered,
                filed.standing,
            )
        )

    def letter(self, pick: Pick) -> Letter:
        """Read a letter back."""
        row = self._file.execute("SELECT * FROM records WHERE number = ?", (pick.number,)).fetchone()
        _, topic, offset, at, key, value = row
        found = self._file.execute("SELECT name, value FROM headers WHERE number = ? ORDER BY place", (pick.number,))
        headers: Headers = tuple(found.fetchall())
        return read_letter(Record(topic, 0, offset, datetime.fromisoformat(at), key, value, headers))


def in_order(picks: Sequence[Pick]) -> list[Pick]:
    """Order letters as they died, except that those of one partition of a topic are in the order of their offsets.

    An event that was deferred dies later than one behind it, which has the same key.
    """
    by_place: dict[tuple[str, str, int], list[Pick]] = defaultdict(list)
    for pick in picks:
        by_place[_place(pick)].append(pick)
    sorted_places: Mapping[tuple[str, str, int], Iterator[Pick]] = {
        place: iter(sorted(found, key=lambda pick: pick.offset)) for place, found in by_place.items()
    }
    return [next(sorted_places[_place(pick)]) for pick in picks]


def _place(pick: Pick) -> tuple[str, str, int]:
    return pick.group, pick.topic, pick.partition


def same(standing: Standing | None, decision: Decision) -> bool:
    """Say whether this was decided already."""
    return standing is not None and standing.action == decision.action and standing.state != "open"
