"""Infers how numbers are written from the typed error `not_numeric`, which lists every shape that did not parse."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raa_router.offline.prompt import mappings, text_of
from raa_router.offline.request import NotUnderstoodError

_NUMERIC = re.compile(r"[+-]?[.,]?9(?:[.,'_ \u00a0\u202f]9)*[.,]?")
_SIGN = re.compile(r"[.,'_ \u00a0\u202f]")
_OF = re.compile(r"(\d+) of (\d+) values")
_EXAMPLE = re.compile(r"for example '([^']+)'")
_MARKS = frozenset(
    {
        "na",
        "n/a",
        "#n/a",
        "n.a.",
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
    }
)
_BLANKS = str.maketrans({"\u00a0": " ", "\u202f": " "})


@dataclass(frozen=True)
class _Shape:
    shape: str
    count: int
    example: str
    grouped: bool

    @property
    def signs(self) -> str:
        return "".join(_SIGN.findall(self.shape)).translate(_BLANKS)


def options_from_error(details: Mapping[str, Any], message: str, read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the read options that explain all shapes; `read` holds those the failed step had used.

    Raises:
        NotUnderstoodError: some shape is neither a number nor a word for a missing value, or most values are words.
    """
    shapes = [_shape(entry) for entry in mappings(details.get("shapes"))] or _told(message)
    numbers = [shape for shape in shapes if _NUMERIC.fullmatch(shape.shape)]
    tokens = [shape for shape in shapes if shape not in numbers]
    column = text_of(details.get("column"))
    for token in tokens:
        if "9" in token.shape or not token.example:
            raise NotUnderstoodError(
                f"the goal asks to compute with {column or 'a column'}; '{token.example}' and the like are no numbers"
            )
    _few(tokens, message, column)
    options = _signs(numbers, read)
    if tokens:
        options["missing"] = list(dict.fromkeys(token.example for token in tokens))
    return options


def _told(message: str) -> list[_Shape]:
    """Read the one example in the message, where the list of shapes was too long for the prompt."""
    found = _EXAMPLE.search(message)
    if found is None:
        return []
    shape = re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "a", found[1]))
    return [_Shape(shape, 1, found[1], grouped=False)]


def _shape(entry: Mapping[str, Any]) -> _Shape:
    count = entry.get("count")
    number = count if isinstance(count, int) else 0
    shape, example = text_of(entry.get("shape")), text_of(entry.get("example"))
    return _Shape(shape or example, number, example, number > 0 and entry.get("grouped") == number)


def _few(tokens: Sequence[_Shape], message: str, column: str) -> None:
    """Refuse to call most of a column missing: then it holds words, unless the words say that something is missing."""
    counted = _OF.search(message)
    words = sum(token.count for token in tokens if token.example.casefold() not in _MARKS)
    if counted and words * 2 > int(counted[2]):
        raise NotUnderstoodError(
            f"the goal asks to compute with {column}, which holds words such as '{tokens[0].example}', not numbers"
        )


def _signs(numbers: Sequence[_Shape], read: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the decimal from the thousands sign: where both occur the last is the decimal one."""
    mixed = [shape.signs for shape in numbers if len(set(shape.signs)) > 1]
    decimal = mixed[0][-1] if mixed else None
    thousands = mixed[0][0] if mixed else None
    single = [shape for shape in numbers if len(set(shape.signs)) == 1]
    for shape in single:
        sign = shape.signs[0]
        if sign in {decimal, thousands}:
            continue
        leading_zero = shape.example.lstrip("+-").startswith("0")
        if len(shape.signs) > 1 or sign not in ".," or (shape.grouped and not leading_zero):
            thousands = thousands or sign
        else:
            decimal = decimal or sign
    options = {"decimal": decimal, "thousands": thousands}
    known = {"decimal": read.get("decimal", "."), "thousands": read.get("thousands")}
    return {key: value for key, value in options.items() if value is not None and value != known[key]}
