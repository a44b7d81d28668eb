"""The error `not_numeric`: all shapes of the values that do not parse, so that one look fixes every read option."""

import re
from typing import Any

from raa_executor.tools.errors import ToolError
from raa_executor.tools.table_read import ReadOptions
from raa_executor.tools.table_source import Column, Source

_MAX_SHAPES = 100
_SHAPE = r"regexp_replace(regexp_replace(left({v}, 80), '\p{{L}}+', 'a', 'g'), '\p{{N}}+', '9', 'g')"
_GROUPED = r"'[+-]?\d{1,3}([.,'' ]\d{3})+([.,]\d+)?'"


def not_numeric(source: Source, column: Column) -> ToolError:
    """Describe the cells of `column` that are no numbers, the most frequent shape first.

    In a shape, `9` stands for a run of digits and `a` for a run of letters. `grouped` counts the cells that read as
    groups of three digits, and is absent when there are none; `more_shapes` counts what a list of 100 leaves out.
    """
    shapes = [_entry(*row) for row in _shapes(source, column)]
    listed = shapes[:_MAX_SHAPES]
    details: dict[str, Any] = {"column": column.name, "shapes": listed}
    if len(shapes) > _MAX_SHAPES:
        details["more_shapes"] = True
    message = (
        f"{column.bad} of {column.count} values of {column.name} are not numbers, "
        f"for example '{listed[0]['example']}'; {_remedy(listed, source.read)}"
    )
    return ToolError("not_numeric", message, details)


def _shapes(source: Source, column: Column) -> list[tuple[Any, ...]]:
    shape = _SHAPE.format(v=column.text)
    grouped = f"count_if(regexp_full_match({column.text}, {_GROUPED}))"
    return source.query(
        f"{shape} AS shape, count(*), left(first({column.text}), 80), {grouped}",
        f"WHERE bad{column.place} GROUP BY shape ORDER BY 2 DESC, 1 LIMIT {_MAX_SHAPES + 1}",
    )


def _entry(shape: str, count: int, example: str, grouped: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"shape": shape, "count": count, "example": example}
    return entry | ({"grouped": grouped} if grouped else {})


def _remedy(shapes: list[dict[str, Any]], read: ReadOptions) -> str:
    """Name the read options that would explain the shapes; which values to give is for the caller to decide."""
    options = dict.fromkeys(option for shape in shapes for option in _options(shape, read))
    return "set " + " and ".join(f"read.{option}" for option in options)


def _options(shape: dict[str, Any], read: ReadOptions) -> list[str]:
    spelling = shape["shape"].lstrip("+-")
    if not re.fullmatch(r"[.,]?9([.,' ]9)*", spelling):
        return ["missing"]
    signs = re.sub("9", "", spelling)
    if shape.get("grouped") == shape["count"] or len(signs) > 1:
        ends_in_decimal = len(set(signs)) > 1 and signs[-1] != read.decimal
        return ["decimal", "thousands"] if ends_in_decimal else ["thousands"]
    return ["decimal"] if signs in {".", ","} else ["thousands"]
