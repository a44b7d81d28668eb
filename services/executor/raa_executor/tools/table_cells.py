"""The SQL that turns a file into cells: raw text, then missing values, then numbers.

Every name in it is ours (`c3`, `t0`, `n0`) and every value is bound, so that nothing of a file, a column name or an
argument ever becomes SQL.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raa_executor.tools.table_read import ReadOptions
from raa_runtime.tabular import Dialect

Relation = tuple[str, list[Any]]

_ONE_COLUMN = "\x1f"  # DuckDB wants a delimiter; the unit separator stands in no text file
_BLANKS = "' ' || chr(9) || chr(10) || chr(13) || chr(160)"
_MAX_JSON_OBJECT = 16 * 1024 * 1024
_SPACES = "chr(160) || chr(8239)"


def raw_rows(path: Path, dialect: Dialect, places: Sequence[int]) -> Relation:
    """Return `r0, r1, …`: the trimmed texts of the columns at `places` of `dialect.columns`, null where empty.

    A record in which every column is empty is no row.
    """
    if dialect.format == "delimited":
        source, values = _delimited(path, dialect)
        every = [_trimmed(f"c{position}") for position in dialect.positions]
    else:
        source, values = _json(path, dialect)
        every = [_trimmed(f"c{number}") for number in range(len(dialect.columns))]
    wanted = ", ".join(f"{every[place]} AS r{number}" for number, place in enumerate(places))
    return f"SELECT {wanted} FROM ({source}) WHERE coalesce({', '.join(every)}) IS NOT NULL", values  # noqa: S608


def cells(raw: Relation, count: int, read: ReadOptions) -> Relation:
    """Return for each of `count` columns `v` (text), `n` (number) and `bad` (neither missing nor a number)."""
    source, values = raw
    tokens = [entry for entry in read.missing if isinstance(entry, str)]
    numbers = [float(entry) for entry in read.missing if not isinstance(entry, str)]
    for step in (_tokens_left_out(count, tokens), _parsed(count, read), _numbers_left_out(count, numbers)):
        select, bound = step
        source, values = f"SELECT {select} FROM ({source})", [*bound, *values]  # noqa: S608
    return source, values


def _trimmed(name: str) -> str:
    return f"nullif(trim({name}, {_BLANKS}), '')"


def _delimited(path: Path, dialect: Dialect) -> Relation:
    """Parse strictly: a record with too many fields or an open quote is an error, never a guess."""
    names = {f"c{number}": "VARCHAR" for number in range(dialect.width)}
    sql = (
        "FROM read_csv(?, delim = ?, quote = '\"', escape = '\"', header = ?, skip = ?, encoding = ?, columns = ?,"
        " auto_detect = false, null_padding = true, strict_mode = true, parallel = false, compression = 'none')"
    )
    encoding = "latin-1" if dialect.encoding in {"latin-1", "iso8859-1"} else "utf-8"
    values = [str(path), dialect.delimiter or _ONE_COLUMN, dialect.header, dialect.skip_lines, encoding, names]
    return sql, values


def _json(path: Path, dialect: Dialect) -> Relation:
    """Take each object whole and its members by pointer: column names of DuckDB would not tell `a` from `A`."""
    members = ", ".join(f"json_extract_string(json, ?) AS c{number}" for number in range(len(dialect.columns)))
    form = "array" if dialect.format == "json" else "newline_delimited"
    sql = f"SELECT {members} FROM read_json_objects(?, format = ?, maximum_object_size = ?, compression = 'none')"  # noqa: S608
    return sql, [*map(_pointer, dialect.columns), str(path), form, _MAX_JSON_OBJECT]


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _tokens_left_out(count: int, tokens: Sequence[str]) -> Relation:
    if not tokens:
        return ", ".join(f"r{k} AS t{k}" for k in range(count)), []
    marks = ", ".join("?" for _ in tokens)
    trimmed = [token.strip() for token in tokens]
    return ", ".join(f"CASE WHEN r{k} IN ({marks}) THEN NULL ELSE r{k} END AS t{k}" for k in range(count)), [
        token for _ in range(count) for token in trimmed
    ]


def _parsed(count: int, read: ReadOptions) -> Relation:
    parsed = ", ".join(f"t{k}, {_number(_pointed(f't{k}', read))} AS p{k}" for k in range(count))
    return parsed, []


def _number(text: str) -> str:
    """Parse a text with a decimal point; DuckDB would also take `nan`, `inf` and `1_000`."""
    cast = f"try_cast({text} AS DOUBLE)"
    return f"CASE WHEN isfinite({cast}) AND NOT contains({text}, '_') THEN {cast} END"


def _pointed(text: str, read: ReadOptions) -> str:
    """Rewrite a cell to plain digits and a decimal point, null where it does not follow the read options."""
    plain = (
        text if read.decimal == "." else f"CASE WHEN contains({text}, '.') THEN NULL ELSE replace({text}, ',', '.') END"
    )
    if read.thousands is None:
        return plain
    if read.thousands == " ":
        text = f"translate({text}, {_SPACES}, '  ')"
    sign, point = _quoted(read.thousands), _quoted(read.decimal)
    grouped = rf"'[+-]?\d{{1,3}}(' || {_pattern(read.thousands)} || '\d{{3}})+(' || {_pattern(read.decimal)} || '\d*)?'"
    joined = f"replace(replace({text}, {sign}, ''), {point}, '.')"
    return (
        f"CASE WHEN regexp_full_match({text}, {grouped}) THEN {joined}"
        f" WHEN contains({text}, {sign}) THEN NULL ELSE {plain} END"
    )


def _quoted(sign: str) -> str:
    """Quote one of the few signs that the argument's type allows."""
    return "'" + sign.replace("'", "''") + "'"


def _pattern(sign: str) -> str:
    return _quoted(re.escape(sign) if sign in {".", " "} else sign)


def _numbers_left_out(count: int, numbers: Sequence[float]) -> Relation:
    """Numbers are compared after parsing, so that every spelling of a missing value is met."""
    marks = ", ".join("?" for _ in numbers)
    known = f"p{{k}} IN ({marks})" if numbers else "false"
    column = (
        f"CASE WHEN {known} THEN NULL ELSE t{{k}} END AS v{{k}}, CASE WHEN {known} THEN NULL ELSE p{{k}} END AS n{{k}},"
        " (t{k} IS NOT NULL AND p{k} IS NULL) AS bad{k}"
    )
    return ", ".join(column.format(k=k) for k in range(count)), [n for _ in range(2 * count) for n in numbers]
