"""Built-in tool `table.query`: selects, filters, groups and aggregates one table, by structured arguments only."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from raa_executor.tools.declare import tool
from raa_executor.tools.errors import ToolError
from raa_executor.tools.histogram import whole
from raa_executor.tools.table_errors import not_numeric
from raa_executor.tools.table_read import CLOSED, Table
from raa_executor.tools.table_source import TABLE_SECONDS, Column, Source, open_table
from raa_executor.tools.workspace import Workspace

Aggregate = Literal["mean", "sum", "count", "min", "max", "median", "stddev"]
Scalar = int | float | str | bool | None

_AGGREGATES: dict[str, str] = {  # favg and fsum lose less than avg and sum on long columns
    "mean": "favg({})",
    "sum": "fsum({})",
    "min": "min({})",
    "max": "max({})",
    "median": "median({})",
    "stddev": "stddev_samp({})",
}
_Name = Annotated[str, Field(min_length=1, max_length=300)]


class Selected(BaseModel):
    """One column of the result: an aggregate of a column, or a column itself."""

    model_config = CLOSED | {"validate_by_name": True, "validate_by_alias": True}

    fn: Aggregate | None = Field(None, description="aggregate; absent: the column itself")
    column: _Name = Field("*", description="column of the table; * only for count")
    name: _Name | None = Field(None, alias="as", description="name in the result")

    @model_validator(mode="after")
    def _star_only_counts(self) -> Self:
        if self.column == "*" and self.fn != "count":
            raise ValueError("name a column; only count takes *")
        return self


class Condition(BaseModel):
    """A condition on one column; a number compares parsed numbers, a text compares texts, null asks for missing."""

    model_config = CLOSED

    column: _Name
    op: Literal["==", "=", "!=", "<", "<=", ">", ">=", "in", "not in", "contains"] = "=="
    value: Scalar | list[Scalar] = Field(description="a list for in and not in")

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        if (self.op in {"in", "not in"}) != isinstance(self.value, list):
            raise ValueError("in and not in take a list, every other op a single value")
        if self.op == "contains" and not isinstance(self.value, str):
            raise ValueError("contains takes a text")
        if self.value is None and self.op not in {"==", "=", "!="}:
            raise ValueError("null can only be compared by == and !=")
        return self

    @property
    def numeric(self) -> bool:
        """Whether the column must hold numbers for this condition to mean anything."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return any(_is_number(value) for value in values)


class Order(BaseModel):
    """One key of the order; missing values come last."""

    model_config = CLOSED | {"validate_by_name": True, "validate_by_alias": True}

    column: _Name | None = Field(None, description="column of the table")
    name: _Name | None = Field(None, alias="as", description="name in the result")
    desc: bool = Field(False, description="largest first")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.column is None) == (self.name is None):
            raise ValueError("give either column or as")
        return self


@tool(name="table.query", effect="read", risk="read", timeout=TABLE_SECONDS)
def query_table(
    workspace: Workspace,
    table: Table,
    select: Annotated[list[Selected], Field(max_length=200, description="absent: all columns")] = [],  # noqa: B006
    where: Annotated[list[Condition], Field(max_length=50, description="all must hold")] = [],  # noqa: B006
    group_by: Annotated[list[_Name], Field(max_length=20, description="columns; they lead each row")] = [],  # noqa: B006
    order_by: Annotated[list[Order], Field(max_length=20)] = [],  # noqa: B006
    limit: Annotated[int, Field(ge=1, le=10_000, description="at most this many rows")] = 1000,
) -> dict[str, Any]:
    """Query a table: aggregates, filters, groups and order over a delimited or JSON file."""
    everything = not select and not group_by
    asked = [one.column for one in select if one.column != "*"] + [one.column for one in where] + list(group_by)
    known = {one.name for one in select if one.name} | {one.column for one in select}
    asked += [one.column for one in order_by if one.column and one.column not in known]
    wanted = None if everything else asked
    with open_table(workspace, table, wanted) as source:
        if everything:
            select = [Selected(column=column.name) for column in source.columns]
        return _Query(source, select, where, group_by, order_by, limit).result()


class _Query:
    """One query against an open source: checks what each column must be, then asks DuckDB once."""

    def __init__(
        self,
        source: Source,
        select: Sequence[Selected],
        where: Sequence[Condition],
        group_by: Sequence[str],
        order_by: Sequence[Order],
        limit: int,
    ) -> None:
        self._source = source
        self._where = where
        self._order_by = order_by
        self._limit = limit
        self._keys = list(dict.fromkeys(source.column(name) for name in group_by))
        self._aggregated = bool(self._keys) or any(one.fn for one in select)
        self._outputs = self._named(select)
        self._cells = {column.value for column in source.columns}
        self._values: list[Any] = []

    def result(self) -> dict[str, Any]:
        for condition in self._where:
            self._require_numbers(condition.column, needed=condition.numeric)
        tail = f"{self._filter()} {self._group()} {self._order()} LIMIT {self._limit + 1}"
        records = self._source.query(", ".join(self._outputs.values()), tail, self._values)
        names = list(self._outputs)
        rows = [self._row(record) for record in records[: self._limit]]
        return {"rows": rows, "row_count": len(rows), "columns": names, "truncated": len(records) > self._limit}

    def _row(self, record: Sequence[Any]) -> dict[str, Any]:
        """Name the cells; the table's own whole numbers stay whole, aggregates stay what DuckDB computed."""
        cells = zip(self._outputs.items(), record, strict=True)
        return {name: whole(cell) if sql in self._cells else _finite(cell) for (name, sql), cell in cells}

    def _named(self, select: Sequence[Selected]) -> dict[str, str]:
        """Map the names of the result to SQL; group columns that are not selected lead."""
        chosen = {self._source.column(one.column) for one in select if one.fn is None}
        leading = [Selected(column=key.name) for key in self._keys if key not in chosen]
        alike = Counter(one.fn for one in select)
        outputs: dict[str, str] = {}
        for one in [*leading, *select]:
            name = one.name or _default_name(one, alike)
            if name in outputs:
                raise ToolError(
                    "bad_arguments", f"two columns of the result are called '{name}'; give one another 'as'"
                )
            outputs[name] = self._expression(one)
        return outputs

    def _expression(self, one: Selected) -> str:
        if one.fn == "count":
            return "count(*)" if one.column == "*" else f"count({self._source.column(one.column).text})"
        column = self._source.column(one.column)
        if one.fn is not None:
            self._require_numbers(one.column, needed=True)
            return _AGGREGATES[one.fn].format(column.number)
        if self._aggregated and column not in self._keys:
            message = f"'{one.column}' stands beside an aggregate; add it to group_by, or give it an fn"
            raise ToolError("bad_arguments", message, {"column": one.column})
        return column.value

    def _require_numbers(self, name: str, *, needed: bool) -> None:
        column = self._source.column(name)
        if needed and column.bad:
            raise not_numeric(self._source, column)

    def _filter(self) -> str:
        conditions = [self._condition(condition) for condition in self._where]
        return f"WHERE {' AND '.join(conditions)}" if conditions else ""

    def _condition(self, condition: Condition) -> str:
        column = self._source.column(condition.column)
        if isinstance(condition.value, list):
            parts = [self._compared(column, "=", value) for value in condition.value]
            anywhere = f"coalesce({' OR '.join(parts)}, false)" if parts else "false"
            present = f"{column.text} IS NOT NULL" if None not in condition.value else "true"
            return anywhere if condition.op == "in" else f"(NOT {anywhere} AND {present})"
        return self._compared(column, condition.op, condition.value)

    def _compared(self, column: Column, op: str, value: Scalar) -> str:
        if value is None:
            return f"({column.text} IS {'NOT ' if op == '!=' else ''}NULL)"
        sign = {"==": "=", "!=": "<>"}.get(op, op)
        if isinstance(value, bool):
            self._values.append("true" if value else "false")
            return f"(lower({column.text}) {sign} ?)"
        self._values.append(float(value) if _is_number(value) else value)
        if sign == "contains":
            return f"contains({column.text}, ?)"
        return f"({column.number if _is_number(value) else column.text} {sign} ?)"

    def _group(self) -> str:
        return f"GROUP BY {', '.join(key.value for key in self._keys)}" if self._keys else ""

    def _order(self) -> str:
        """Order as asked, then by the group columns, so that the same table always gives the same rows."""
        keys = [f"{self._order_key(one)} {'DESC' if one.desc else 'ASC'} NULLS LAST" for one in self._order_by]
        keys += [f"{key.value} ASC NULLS LAST" for key in self._keys]
        return f"ORDER BY {', '.join(keys)}" if keys else ""

    def _order_key(self, one: Order) -> str:
        name = one.name or one.column or ""
        if one.column is None or name in self._outputs:
            if name not in self._outputs:
                message = f"order_by names '{name}', which the result does not have; it has {', '.join(self._outputs)}"
                raise ToolError("bad_arguments", message, {"as": name, "columns": list(self._outputs)})
            self._refuse_numbers_as_text(self._outputs[name])
            return self._outputs[name]
        column = self._source.column(name)
        if self._aggregated and column not in self._keys:
            message = f"order_by names '{name}', but the rows are groups; order by a column of the result with 'as'"
            raise ToolError("bad_arguments", message, {"column": name})
        self._refuse_numbers_as_text(column.text)
        return column.value

    def _refuse_numbers_as_text(self, sql: str) -> None:
        """Refuse to sort numbers of another spelling as texts: 9,5 would come after 10,1."""
        for column in self._source.columns:
            if column.text == sql and column.seems_number:
                raise not_numeric(self._source, column)


def _default_name(one: Selected, alike: Counter[Aggregate | None]) -> str:
    if one.fn is None:
        return one.column
    return one.fn if alike[one.fn] == 1 else f"{one.fn}_{one.column}"


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(cell: Any) -> Any:
    if isinstance(cell, float) and not math.isfinite(cell):
        raise ToolError("too_large", "a value of the result is beyond the range of numbers; filter the extremes out")
    return cell
