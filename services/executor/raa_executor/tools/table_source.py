"""Reads a file of the workspace as a relation of text cells and parsed numbers, for query and profile alike.

Cells are read as text, and parsed here by the caller's read options. Missing tokens are compared before parsing,
missing numbers after it: one file writes -999 both as `-999` and as `-999,0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from raa_executor.tools.duck import Sandbox, open_sandbox
from raa_executor.tools.errors import ToolError
from raa_executor.tools.table_cells import cells, raw_rows
from raa_executor.tools.table_read import ReadOptions, Table
from raa_executor.tools.workspace import Workspace
from raa_runtime.tabular import Dialect, broken_json_line, normalise_column, read_head, sniff

TABLE_SECONDS = 300.0

_IN_MEMORY_BYTES = 16 * 1024 * 1024  # above this every query reads the file again, below it is parsed once
_NATIVE = {"utf-8": "utf-8", "latin-1": "latin-1", "iso8859-1": "latin-1", "ascii": "utf-8"}
_UNICODE = {"utf-8", "ascii"}
_CHUNK_CHARS = 1 << 20
_OTHER_SPELLING = r"[+-]?(\d+[.,]\d+|\d{1,3}([.,'' ]\d{3})+([.,]\d+)?)"
_COUNTS = (
    "count(v{k}), count_if(bad{k}), "
    "count_if(CASE WHEN bad{k} THEN regexp_full_match(v{k}, '"
    + _OTHER_SPELLING.replace("{", "{{").replace("}", "}}")
    + "')"
    " ELSE false END), "
    "count_if(CASE WHEN starts_with(v{k}, '0') THEN regexp_matches(v{k}, '^0[0-9]') ELSE false END)"
)
_FIRST_LINE = re.compile(r"CSV Error on Line: (\d+)")


@dataclass(frozen=True)
class Column:
    """One wanted column after the first pass over all rows.

    `count` cells are not missing, `bad` of them are no numbers, of which `alike` look like numbers of another spelling
    (`2,6` where the decimal sign is a point). `coded` start with a zero that a number would lose, as in `01234`.
    """

    name: str
    place: int
    count: int
    bad: int
    alike: int
    coded: int

    @property
    def text(self) -> str:
        """The SQL name of the cell as text, null when missing."""
        return f"v{self.place}"

    @property
    def number(self) -> str:
        """The SQL name of the parsed cell, null when missing or no number."""
        return f"n{self.place}"

    @property
    def is_number(self) -> bool:
        """Whether every cell is missing or a number."""
        return self.count > 0 and self.bad == 0

    @property
    def seems_number(self) -> bool:
        """Whether most cells are numbers, or would be with other read options."""
        return self.bad > 0 and 2 * (self.count - self.bad + self.alike) >= self.count

    @property
    def value(self) -> str:
        """The SQL name under which rows show and group the cell."""
        return self.number if self.is_number and not self.coded else self.text


@dataclass(frozen=True)
class Source:
    """An open table whose every row was read once; `relation` has each column as text and as number."""

    sandbox: Sandbox
    relation: str
    values: tuple[Any, ...]
    read: ReadOptions
    row_count: int
    columns: tuple[Column, ...]

    def query(self, select: str, tail: str = "", values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run `SELECT select FROM relation tail`; `values` fill the place holders of `tail`."""
        return self.sandbox.query(f"SELECT {select} FROM ({self.relation}) {tail}", [*self.values, *values])  # noqa: S608

    def column(self, name: str) -> Column:
        """Return an open column by a name as in `find_column`."""
        found = find_column(name, [column.name for column in self.columns])
        return next(column for column in self.columns if column.name == found)


def find_column(name: str, names: Sequence[str]) -> str:
    """Return the column called `name`, or the only one that is spelled like it up to case and spaces.

    Raises:
        ToolError: `unknown_column`, with near names.
    """
    if name in names:
        return name
    wanted = normalise_column(name)
    alike = [known for known in names if normalise_column(known) == wanted]
    if len(alike) == 1:
        return alike[0]
    spellings = {normalise_column(known): known for known in names}
    containing = [known for spelling, known in spellings.items() if wanted in spelling]
    close = [spellings[spelling] for spelling in get_close_matches(wanted, spellings, n=3)]
    near = list(dict.fromkeys([*close, *containing]))[:5]
    remedy = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(repr(known) for known in names[:20])}"
    details = {"column": name, "near": near, "columns": list(names[:200])}
    raise ToolError("unknown_column", f"the table has no column '{name}'; {remedy}", details)


@contextmanager
def open_table(workspace: Workspace, table: Table, wanted: Sequence[str] | None) -> Iterator[Source]:
    """Open the `wanted` columns of a table (all, if None) and read it once from the first to the last row.

    Raises:
        ToolError: `file_not_found`, `empty_file`, `not_a_table`, `unknown_column`, `ambiguous_column`, `bad_arguments`.
    """
    path = workspace.path_of(table.file)
    dialect = _dialect_of(path, table)
    names = dialect.columns if wanted is None else [find_column(name, dialect.columns) for name in wanted]
    if wanted is not None:
        _refuse_repeated(names, dialect, table.file)
    names = list(dict.fromkeys(names)) or list(dialect.columns[:1])  # count(*) alone wants no column
    with ExitStack() as stack:
        try:
            path, dialect = _plain(path, dialect, workspace.scratch())
            source = stack.enter_context(_open(path, dialect, names, table.read))
        except _Unreadable as first:
            encoding = first.remedy(dialect, table)
            path, dialect = _rewrite(path, replace(dialect, encoding=encoding), workspace.scratch())
            try:
                source = stack.enter_context(_open(path, dialect, names, table.read))
            except _Unreadable as second:
                raise second.final(table) from second
        yield source


def _refuse_repeated(names: Sequence[str], dialect: Dialect, file: str) -> None:
    """Refuse a name that several columns have: taking the first of them would be a guess."""
    if repeated := [name for name in names if name in dialect.repeated]:
        name = repeated[0]
        others = [known for known in dialect.columns if re.fullmatch(re.escape(name) + r"_[0-9]+", known)]
        message = (
            f"'{file}' has several columns called '{name}'; give each a name of its own in the file"
            f"{f', or name another of them, called {chr(39)}{others[0]}{chr(39)} here' if others else ''}"
        )
        raise ToolError("ambiguous_column", message, {"column": name, "file": file, "others": others})


class _Unreadable(Exception):
    """DuckDB met something that does not fit the dialect."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        found = _FIRST_LINE.search(reason)
        self.line = line or (int(found[1]) if found else None)
        self._json = line is not None

    def remedy(self, dialect: Dialect, table: Table) -> str:
        """Return the encoding in which a rewritten copy may be readable, or raise the final error."""
        if "invalid state" in self.reason:  # line ends of different kinds in one file
            return dialect.encoding
        if "unicode" in self.reason.lower() and dialect.ascii_only and table.read.encoding is None:
            return "cp1252"  # the first bytes were plain ASCII and left the encoding open
        raise self.final(table) from self

    def final(self, table: Table) -> ToolError:
        at = f" at line {self.line}" if self.line else ""
        details = {"file": table.file, "line": self.line}
        if "unicode" in self.reason.lower():
            message = f"'{table.file}' is not written in the encoding found{at}; set read.encoding, such as 'latin-1'"
            return ToolError("not_a_table", message, details)
        said = self.reason.partition("Possible")[0].strip().splitlines()
        reason = next((line for line in reversed(said) if line.strip()), "it does not parse")[:200]
        remedy = "mend this line" if self._json else "check this line, or set read.delimiter"
        return ToolError("not_a_table", f"'{table.file}' cannot be read as a table{at}: {reason}; {remedy}", details)


def _dialect_of(path: Path, table: Table) -> Dialect:
    if table.read.decimal == table.read.thousands:
        raise ToolError("bad_arguments", "read.decimal and read.thousands are the same sign; they must differ")
    try:
        dialect = sniff(read_head(path), delimiter=table.read.delimiter, encoding=table.read.encoding)
    except LookupError:
        message = f"'{table.read.encoding}' is no known encoding; try utf-8 or latin-1"
        raise ToolError("bad_arguments", message, {"encoding": table.read.encoding}) from None
    if dialect.format == "empty":
        raise ToolError(
            "empty_file", f"'{table.file}' is empty; attach the file with its content", {"file": table.file}
        )
    if not dialect.is_table:
        raise ToolError(
            "not_a_table", _why_no_table(dialect, table.file), {"file": table.file, "found": dialect.format}
        )
    return dialect


def _why_no_table(dialect: Dialect, file: str) -> str:
    if dialect.format == "binary":
        return f"'{file}' holds binary data; attach it as delimited text or JSON"
    if dialect.problem:
        return f"'{file}' is nearly a table, but {dialect.problem}; mend that line, or set read.delimiter"
    if dialect.format == "text":
        return f"'{file}' reads as text without columns; use file.read, or set read.delimiter"
    return f"'{file}' is JSON but no list of objects; attach an array of objects or one object per line"


def _plain(path: Path, dialect: Dialect, scratch: Path) -> tuple[Path, Dialect]:
    """Return the file itself, or a UTF-8 copy when its encoding is not built into DuckDB."""
    native = dialect.encoding in (_NATIVE if dialect.format == "delimited" else _UNICODE)
    return (path, dialect) if native else _rewrite(path, dialect, scratch)


def _rewrite(path: Path, dialect: Dialect, scratch: Path) -> tuple[Path, Dialect]:
    """Copy the file as UTF-8 with one kind of line end, in constant memory."""
    copy = scratch / f"{path.name[:80]}.utf8"
    with path.open(encoding=dialect.encoding, errors="replace") as source, copy.open("w", encoding="utf-8") as target:
        first = source.read(_CHUNK_CHARS).removeprefix("\ufeff")
        for chunk in chain([first], iter(partial(source.read, _CHUNK_CHARS), "")):
            target.write(chunk)
    return copy, replace(dialect, encoding="utf-8")


@contextmanager
def _open(path: Path, dialect: Dialect, names: Sequence[str], read: ReadOptions) -> Iterator[Source]:
    import duckdb  # noqa: PLC0415

    with open_sandbox([path], TABLE_SECONDS) as sandbox:
        try:
            source = _read_once(sandbox, path, dialect, names, read)
        except duckdb.Error as error:
            broken = broken_json_line(path) if dialect.format == "jsonl" else None
            raise (_Unreadable(broken[1], broken[0]) if broken else _Unreadable(str(error))) from error
        yield source


def _read_once(sandbox: Sandbox, path: Path, dialect: Dialect, names: Sequence[str], read: ReadOptions) -> Source:
    """Build the relation, keep a small one in memory, and count what the cells are."""
    places = [dialect.columns.index(name) for name in names]
    relation, values = cells(raw_rows(path, dialect, places), len(places), read)
    if path.stat().st_size <= _IN_MEMORY_BYTES:
        sandbox.query(f"CREATE TEMP TABLE cells AS {relation}", values)
        relation, values = "FROM cells", []
    counts = ", ".join(_COUNTS.format(k=k) for k in range(len(names)))
    counted = sandbox.query(f"SELECT count(*), {counts} FROM ({relation})", values)[0]  # noqa: S608
    columns = tuple(Column(name, k, *counted[1 + 4 * k : 5 + 4 * k]) for k, name in enumerate(names))
    return Source(sandbox, relation, tuple(values), read, counted[0], columns)
