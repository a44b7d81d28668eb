"""Infers read options from the shapes of cells that did not parse as numbers.

It deliberately works from a typed error only, never from a guess at the data: an error says that something is wrong,
and its shapes say what would put it right.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

MAX_TOKEN_CHARACTERS = 16
_NUMBER_SHAPE = re.compile(r"[+-]?[.,]?9([.,' ]9)*")
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,' ]\d{3})+([.,]\d+)?")
_TOLD = re.compile(r"\bof (\d{1,18}) values\b")
_THOUSANDS = (None, ",", ".", "'", " ")
_MISSING_MARKS = {
    "na",
    "n/a",
    "#n/a",
    "n.a.",
    "n.a",
    "nan",
    "nd",
    "n.d.",
    "null",
    "nil",
    "none",
    "missing",
    "unknown",
    "-",
    "--",
    "---",
    "?",
    ".",
    "..",
    "...",
    "*",
    "x",
    "\u2013",
    "\u2014",
}


class Shape(NamedTuple):
    """Cells that look alike: `text` with 9 for digits, how many, one of them, how many could be groups of three."""

    text: str
    cells: int
    example: str
    grouped: int


class Spelling(NamedTuple):
    """A decimal sign and a sign between groups of three digits."""

    decimal: str
    thousands: str | None


def read_options(details: dict[str, Any], known: dict[str, Any], delimiter: str | None) -> dict[str, Any]:
    """Infer the read options that explain the shapes of an error; empty if nothing would.

    Args:
        details: of the error: `shapes`, and `count` of all values if it is there.
        known: the read options the call had.
        delimiter: what separates the fields of the file; decides whether 1,234 is a group or a decimal.
    """
    entries = list(_shapes(details.get("shapes")))
    total = count if isinstance(count := details.get("count"), int) else None
    numbers = [shape for shape in entries if _NUMBER_SHAPE.fullmatch(shape.text)]
    tokens = [shape for shape in entries if _is_token(shape)]
    current = Spelling(str(known.get("decimal") or "."), known.get("thousands"))
    best = _best(numbers, current, delimiter)
    if _explained(numbers, best) == 0 and numbers:
        return {}
    options: dict[str, Any] = {}
    if best.decimal != current.decimal:
        options["decimal"] = best.decimal
    if best.thousands != current.thousands:
        options["thousands"] = best.thousands
    if missing := [shape.example for shape in tokens if _marks_missing(shape, tokens, total)]:
        options["missing"] = missing
    return options


def is_ambiguous(details: dict[str, Any]) -> bool:
    """Say whether some shape could be decimals as well as groups of three digits, as 1,234 can."""
    return any(
        shape.grouped == shape.cells and len(re.sub(r"[+9-]", "", shape.text)) == 1
        for shape in _shapes(details.get("shapes"))
    )


def values_told(message: str) -> int | None:
    """Read from an error's message how many values there are: `4 of 150 values …`."""
    found = _TOLD.search(message)
    return int(found[1]) if found is not None else None


def _shapes(shapes: Any) -> Iterator[Shape]:
    for entry in shapes if isinstance(shapes, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("shape"), str):
            continue
        count, grouped = entry.get("count"), entry.get("grouped", 0)
        example = str(entry.get("example", ""))
        yield Shape(
            re.sub(r"9+", "9", entry["shape"]),
            count if isinstance(count, int) else 1,
            example,
            grouped if isinstance(grouped, int) else int(bool(_GROUPED.fullmatch(example))),
        )


def _best(numbers: list[Shape], current: Spelling, delimiter: str | None) -> Spelling:
    """Choose the spelling that explains most cells; of equals the one nearest to the current, then a likely one."""
    candidates = [
        Spelling(decimal, thousands)
        for decimal in (".", ",")
        for thousands in dict.fromkeys([*_THOUSANDS, current.thousands])
        if thousands != decimal
    ]
    prefers_groups = delimiter == ","  # a comma inside a field of a comma-separated file was quoted: a group

    def merit(spelling: Spelling) -> tuple[int, int, bool]:
        changes = (spelling.decimal != current.decimal) + (spelling.thousands != current.thousands)
        return _explained(numbers, spelling), -changes, (spelling.thousands is not None) is prefers_groups

    return max(candidates, key=merit)


def _explained(numbers: Iterable[Shape], spelling: Spelling) -> int:
    return sum(_parsed(shape, spelling) for shape in numbers)


def _parsed(shape: Shape, spelling: Spelling) -> int:
    """Count the cells of a shape that a spelling makes numbers."""
    signs = re.sub(r"[+9-]", "", shape.text)
    if signs in {"", spelling.decimal}:
        return shape.cells
    groups = signs.removesuffix(spelling.decimal)
    return shape.grouped if spelling.thousands is not None and set(groups) == {spelling.thousands} else 0


def _is_token(shape: Shape) -> bool:
    """Tell a word or sign that may stand for a missing value: short, and no digit in it."""
    return 0 < len(shape.example) <= MAX_TOKEN_CHARACTERS and not any(map(str.isdigit, shape.example))


def _marks_missing(shape: Shape, tokens: list[Shape], total: int | None) -> bool:
    """Tell a mark for missing from the words of a column of words: by its meaning, or because words are rare."""
    words = sum(token.cells for token in tokens)
    return shape.example.casefold() in _MISSING_MARKS or (total is not None and words * 2 < total)
