"""Built-in tool `table.profile`: what the columns of a table hold, and which values look like a code for missing."""

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
        return {"row_count": source.row_count, "columns": [_profile(source, column) for column in asked]}


def _profile(source: Source, column: Column) -> dict[str, Any]:
    """Describe one column; beyond 50,000 distinct values it looks at a sample of them, and says so (`exact`).

    The sample is drawn over distinct values by their hash, so the multiplicities in it are exact; only its gaps are
    wider, by the same factor everywhere.
    """
    cell = column.number if column.is_number else column.text
    factor = _sampling_factor(source, cell)
    found = _histogram(source, cell, factor)
    head = {
        "name": column.name,
        "kind": "number" if column.is_number else "text",
        "count": column.count,
        "missing": source.row_count - column.count,
        "distinct": len(found) if factor == 1 else _distinct(source, cell),
        "exact": factor == 1,
    }
    numbers = _of_numbers(source, cell, found, factor) if column.is_number else {}
    frequent = h.most_frequent(found, _MOST_FREQUENT)
    return head | numbers | {"most_frequent": [{"value": h.whole(value), "count": count} for value, count in frequent]}


def _of_numbers(source: Source, cell: str, found: h.Histogram, factor: int) -> dict[str, Any]:
    suspects = h.suspects(found) if factor == 1 else _suspects_of_sample(source, cell, found, factor)
    return {
        "min": h.whole(found[0][0]),
        "max": h.whole(found[-1][0]),
        "quantiles": {share: h.whole(value) for share, value in h.quantiles(found, _SHARES).items()},
        "suspects": [h.whole(value) for value in suspects],
    }


def _sampling_factor(source: Source, cell: str) -> int:
    if source.row_count <= MAX_DISTINCT:
        return 1
    distinct = _distinct(source, cell)
    return 1 if distinct <= MAX_DISTINCT else -(-distinct // MAX_DISTINCT)


def _distinct(source: Source, cell: str) -> int:
    return int(source.query(f"approx_count_distinct({cell})")[0][0])


def _histogram(source: Source, cell: str, factor: int) -> list[tuple[Any, int]]:
    """Count the distinct values; minimum and maximum are always among the sampled ones."""
    value = cell if cell.startswith("n") else f"left({cell}, {_TEXT_WIDTH})"
    sampled = f"WHERE {cell} IS NOT NULL"
    values: list[Any] = []
    if factor > 1:
        values = list(source.query(f"min({cell}), max({cell})")[0])
        sampled += f" AND (hash({cell}) % {factor} = 0 OR {cell} IN (?, ?))"
    rows = source.query(f"{value} AS value, count(*) AS multiplicity", f"{sampled} GROUP BY 1 ORDER BY 1", values)
    return [(value, count) for value, count in rows]


def _suspects_of_sample(source: Source, cell: str, found: h.Histogram, factor: int) -> list[float]:
    """Apply the rule with the true neighbours of both ends, and the sample's gaps scaled down."""
    low, high = found[0][0], found[-1][0]
    tail = f"WHERE {cell} > ? AND {cell} < ?"
    below, above = source.query(f"min({cell}), max({cell})", tail, [low, high])[0]
    inner = [(value / factor, count) for value, count in found[1:-1]]
    if below is None or len(inner) < 2:
        return []
    shift_low, shift_high = inner[0][0] - (below - low), inner[-1][0] + (high - above)
    scaled = [(shift_low, found[0][1]), *inner, (shift_high, found[-1][1])]
    named = {shift_low: low, shift_high: high}
    return [named[value] for value in h.suspects(scaled)]
