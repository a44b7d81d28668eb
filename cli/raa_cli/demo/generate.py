"""Generates a table nobody has seen, with the traps of real ones, and says what must come of tasks about it."""

import csv
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from raa_cli.demo.scenario import Attempt, Reading, Run, Scenario

ROWS: Final = 900
CHECK: Final = "result >= 0"
_SYLLABLES: Final = ("ba", "do", "fe", "gi", "ka", "lu", "mo", "ne", "pi", "ra", "so", "tu", "ve", "xo", "za")
_DELIMITERS: Final = (";", "\t", "|")
_SENTINELS: Final = (-99, -250, -777, -999, -9999)
_POINT_EVERY: Final = 5


@dataclass(frozen=True)
class Table:
    """How a generated file is written."""

    name: str
    first: str
    second: str
    delimiter: str
    decimal: str
    sentinel: int


def generate(seed: int, folder: Path) -> Scenario:
    """Write the file of a seed into a folder, and return the runs about it; a fifth of the seeds has a point."""
    chance = random.Random(seed)  # noqa: S311  # the same seed must give the same file
    words = _words(chance, 5)
    table = Table(
        name=f"{words[0]}-{chance.randrange(10, 99)}.csv",
        first=words[1].capitalize(),
        second=f"{words[2].upper()}({words[3][:2]})",
        delimiter=chance.choice(_DELIMITERS),
        decimal="." if seed % _POINT_EVERY == 0 else ",",
        sentinel=chance.choice(_SENTINELS),
    )
    _write(table, words[4], folder / table.name, chance)
    return Scenario(folder, _runs(table))


def _words(chance: random.Random, count: int) -> list[str]:
    words: set[str] = set()
    while len(words) < count:
        words.add("".join(chance.choices(_SYLLABLES, k=3)))
    return chance.sample(sorted(words), count)


def _write(table: Table, label: str, path: Path, chance: random.Random) -> None:
    # The centre is chosen so that a tenth of sentinels pulls a mean far below 0, and one in a hundred leaves it above.
    centre = abs(table.sentinel) * chance.uniform(0.035, 0.06)
    frequent, rare = int(ROWS * chance.uniform(0.12, 0.25)), int(ROWS * chance.uniform(0.008, 0.012))
    columns = [_column(chance, centre, count, table) for count in (frequent, rare)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=table.delimiter)
        writer.writerow([label, table.first, table.second])
        for number, cells in enumerate(zip(*columns, strict=True), 1):
            writer.writerow([f"r{number}", *cells])


def _column(chance: random.Random, centre: float, sentinels: int, table: Table) -> list[str]:
    values = [f"{centre * chance.uniform(0.2, 1.8):.3f}" for _ in range(ROWS)]
    for place in chance.sample(range(ROWS), sentinels):
        values[place] = chance.choice((f"{table.sentinel}", f"{table.sentinel}.0"))
    return [value.replace(".", table.decimal) for value in values]


def _runs(table: Table) -> list[Run]:
    decimal: dict[str, Any] = {"table": {"read": {"decimal": ","}}}
    sentinel: dict[str, Any] = {"table": {"read": {"missing": [table.sentinel]}}}
    comma = table.decimal == ","
    lessons = [decimal, sentinel] if comma else [sentinel]
    stumble = [Attempt(error="not_numeric")] if comma else []
    first, second = (_readings(table, column) for column in (table.first, table.second))
    recovered = [decimal] if comma else []
    return [
        Run("1", f"Average of {table.first} in {table.name}", [table.name], CHECK, "on", "same",
            [*stumble, Attempt(fails_check_at=first.naive, learns=recovered), Attempt(learns=[sentinel])],
            [first.true], checked=True, remark="empty memory"),
        Run("2", f"Average of {table.second} in {table.name}", [table.name], CHECK, "on", "same",
            [Attempt(applies=lessons)], [second.true], checked=True, cites=lessons, remark="same memory"),
        Run("3", f"Average of {table.second} in {table.name}", [table.name], CHECK, "off", "same",
            [*stumble, Attempt()], [second.naive], checked=True, truth=second.true, cites=[],
            remark="memory off: passes its check, and is wrong"),
    ]  # fmt: skip


@dataclass(frozen=True)
class _Readings:
    true: Reading
    naive: Reading


def _readings(table: Table, column: str) -> _Readings:
    true = Reading(table.name, column, table.delimiter, table.decimal, [str(table.sentinel)])
    return _Readings(true, Reading(table.name, column, table.delimiter, table.decimal))
