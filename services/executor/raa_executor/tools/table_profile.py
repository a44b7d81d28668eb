"""Built-in tool `table.profile`: what the columns of a table hold, and which values look like a code for missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from raa_executor.tools import histogram as h
from raa_executor.tools.declare import tool
from raa_executor.tools.table_errors import not_numeric
from raa_executor.tools.table_read import Table
from raa_executor.tools.table_source import TABLE_SECONDS, Column, Source, open_table
from raa_executor.tools.workspace import Workspace

MAX_DISTINCT = 50_000
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_FREQUENT = 10
_TEXT_WIDTH = 200


@tool(name="table.profile", effect="read", risk="read", timeout=TABLE_SECONDS)
def profile_table(
    workspace: Workspace,
    table: Table,
    columns: Annotated[list[str] | None, Field(max_length=500, description="absent: all columns")] = None,
) -> dict[str, Any]:
    """Profile columns of a table: counts, range, quantiles, frequent values, suspected codes for missing."""
    with open_table(workspace, table, columns) as source:
        asked = source.columns if columns is None else [source.column(name) for name in columns]
        for column in asked:
            if columns is not None and column.seems_number:
                raise not_numeric(source, column)
        ranges = _ranges(source, asked)
        return {
            "row_count": source.row_count,
            "columns": [_profile(source, *pair) for pair in zip(asked, ranges, strict=True)],
        }


@dataclass(frozen=True)
class _Range:
    """What one pass over all asked columns tells of one; `distinct` is an estimate."""

    distinct: int
    low: Any
    high: Any

    @property
    def factor(self) -> int:
        """One in how many distinct values is looked at."""
        return max(1, -(-self.distinct // MAX_DISTINCT))


def _ranges(source: Source, columns: Sequence[Column]) -> list[_Range]:
    cells = [_cell(column) for column in columns]
    selected = ", ".join(f"approx_count_distinct({cell}), min({cell}), max({cell})" for cell in cells)
    row = source.query(selected)[0]
    return [_Range(*row[place : place + 3]) for place in range(0, len(row), 3)]


def _cell(column: Column) -> str:
    return column.number if column.is_number else f"left({column.text}, {_TEXT_WIDTH})"


def _profile(source: Source, column: Column, reach: _Range) -> dict[str, Any]:
    """Describe one column; beyond 50,000 distinct values it looks at a sample of them, and says so (`exact`).

    The sample is drawn over distinct values by their hash, so the multiplicities in it are exact; only its gaps are
    wider, by the same factor everywhere.
    """
    exact = reach.factor == 1
    found = _histogram(source, _cell(column), reach)
    head = {
        "name": column.name,
        "kind": "number" if column.is_number else "text",
        "count": column.count,
        "missing": source.row_count - column.count,
        "distinct": len(found) if exact else reach.distinct,
        "exact": exact,
    }
    numbers = _of_numbers(source, column, found, reach) if column.is_number else {}
    frequent = h.most_frequent(found, _MOST_FREQUENT)
    return head | numbers | {"most_frequent": [{"value": h.whole(value), "count": count} for value, count in frequent]}


def _of_numbers(source: Source, column: Column, found: h.Histogram, reach: _Range) -> dict[str, Any]:
    exact = reach.factor == 1
    suspects = h.suspects(found) if exact else _suspects_of_sample(source, column, found, reach.factor)
    return {
        "min": h.whole(reach.low),
        "max": h.whole(reach.high),
        "quantiles": {share: h.whole(value) for share, value in h.quantiles(found, _SHARES).items()},
        "suspects": [h.whole(value) for value in suspects],
    }


def _histogram(source: Source, cell: str, reach: _Range) -> list[tuple[Any, int]]:
    """Count the distinct values; minimum and maximum are always among the sampled ones."""
    sampled, values = f"WHERE {cell} IS NOT NULL", []
    if reach.factor > 1:
        sampled += f" AND (hash({cell}) % {reach.factor} = 0 OR {cell} IN (?, ?))"
        values = [reach.low, reach.high]
    rows = source.query(f"{cell} AS value, count(*) AS multiplicity", f"{sampled} GROUP BY 1 ORDER BY 1", values)
    return [(value, count) for value, count in rows]


def _suspects_of_sample(source: Source, column: Column, found: h.Histogram, factor: int) -> list[float]:
    """Apply the rule with the true neighbours of both ends, and the sample's gaps scaled down."""
    cell, low, high = column.number, found[0][0], found[-1][0]
    below, above = source.query(f"min({cell}), max({cell})", f"WHERE {cell} > ? AND {cell} < ?", [low, high])[0]
    inner = [(value / factor, count) for value, count in found[1:-1]]
    if below is None or len(inner) < 2:
        return []
    shift_low, shift_high = inner[0][0] - (below - low), inner[-1][0] + (high - above)
    scaled = [(shift_low, found[0][1]), *inner, (shift_high, found[-1][1])]
    named = {shift_low: low, shift_high: high}
    return [named[value] for value in h.suspects(scaled)]
