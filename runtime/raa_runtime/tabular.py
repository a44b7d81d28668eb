"""Finds delimiter, encoding, header and column names of a table from the first bytes of a file.

The table tools and the planner's preview share this one reading, so that a plan names the columns the tools will find.
It deliberately does not guess decimal signs, thousands signs or missing values: a wrong guess would be a wrong number.
"""

import codecs
import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HEAD_BYTES = 65_536
"""How much of a file `sniff` looks at; pass at least this much, or the whole file when it is smaller."""

TableFormat = Literal["delimited", "json", "jsonl", "text", "binary", "empty"]

_DELIMITERS = (";", "\t", "|", ",")  # the comma last: it wins no tie, because it may be a decimal sign
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_MAGIC = (b"%PDF-", b"PK\x03\x04", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BZh", b"\xfd7zXZ", b"PAR1")
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 27})
_MAX_CONTROL_SHARE = 0.01
_PREVIEW_LINES = 5
_PREVIEW_WIDTH = 200
_AGREEING_SHARE = 0.8
_NEARLY_SHARE = 0.5
_SCORED_LINES = 200
_CELL_WIDTH = 64
_CELL_WORDS = 4
_NUMBER = re.compile(r"[+-]?(\d+([.,' ]\d+)*|[.,]\d+)([eE][+-]?\d+)?")
_EXCEL_HINT = re.compile(r"sep=(.)")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the first bytes say about a file.

    `positions` gives for each of `columns` its place in a record of `width` fields; unnamed fields that hold nothing
    (`a;b;;`) are no columns. `delimiter` is empty for one column and for JSON. `skip_lines` precede the header.
    `ascii_only` means that the encoding is a default: later bytes may still decide otherwise. `repeated` are names that
    several columns have; `problem` says why something that is nearly a table is none, with the line.
    """

    delimiter: str
    encoding: str
    columns: tuple[str, ...]
    format: TableFormat
    preview_lines: tuple[str, ...]
    positions: tuple[int, ...] = ()
    width: int = 0
    header: bool = True
    skip_lines: int = 0
    ascii_only: bool = False
    repeated: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_table(self) -> bool:
        """Tell whether the file has columns that a table tool can read."""
        return bool(self.columns)


def read_head(path: Path) -> bytes:
    """Return the bytes of `path` that `sniff` needs.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def sniff(head: bytes, *, delimiter: str | None = None, encoding: str | None = None) -> Dialect:
    """Describe the table that begins with `head`; a given `delimiter` or `encoding` is believed.

    Never raises on content: what is no table comes back as the format `text`, `binary` or `empty`.

    Raises:
        LookupError: Python does not know the given `encoding`.
    """
    head = head[:HEAD_BYTES]
    found = _encoding_of(head) if encoding is None else codecs.lookup(encoding).name
    text = _decode(head, found)
    if not text.strip():
        return Dialect("", found, (), "empty", ())
    if _looks_binary(head, found):
        return Dialect("", found, (), "binary", ())
    lines = _whole_lines(text, cut=len(head) >= HEAD_BYTES)
    ascii_only = head.isascii()
    if delimiter is None and text.lstrip()[0] in "[{":
        table = _sniff_json(text, found, lines, ascii_only=ascii_only)
        if table is not None:
            return table
    return _sniff_delimited(lines, delimiter, found, ascii_only=ascii_only)


def normalise_column(name: str) -> str:
    """Return the form of a column name under which spellings of the same name are equal."""
    folded = unicodedata.normalize("NFKC", name).casefold().strip()
    return re.sub(r"[\s_-]+", "_", folded)


def schema_hash(columns: Iterable[str], delimiter: str) -> str:
    """Return `sch_` and 16 hex digits: the identity of a table's shape, independent of its rows."""
    shape = json.dumps([delimiter, [normalise_column(name) for name in columns]], ensure_ascii=False)
    return "sch_" + hashlib.sha256(shape.encode()).hexdigest()[:16]


def _encoding_of(head: bytes) -> str:
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # not final: the head may end inside a character
    except UnicodeDecodeError:
        return "latin-1" if not re.search(rb"[\x80-\x9f]", head) else _western_windows(head)
    return "utf-8"


def _western_windows(head: bytes) -> str:
    """Prefer Windows-1252 where bytes 0x80-0x9f appear: in Latin-1 they would be control characters."""
    try:
        head.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _decode(head: bytes, encoding: str) -> str:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    return decoder.decode(head).removeprefix("\ufeff")


def _looks_binary(head: bytes, encoding: str) -> bool:
    if head.startswith(_MAGIC):
        return True
    if encoding.startswith("utf-16"):
        return False
    control = len(head) - len(head.translate(None, _CONTROL))
    return b"\0" in head or control > len(head) * _MAX_CONTROL_SHARE


def _whole_lines(text: str, *, cut: bool) -> list[str]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if cut and len(lines) > 1:
        lines.pop()  # the head ended inside this line
    return lines


def _preview(lines: Iterable[str]) -> tuple[str, ...]:
    kept = [line[:_PREVIEW_WIDTH] for line in lines if line.strip()]
    return tuple(kept[:_PREVIEW_LINES])


def _sniff_json(text: str, encoding: str, lines: Sequence[str], *, ascii_only: bool) -> Dialect | None:
    """Read an array of objects or one object per line; None when the text is no JSON at all."""
    start = text.lstrip()
    form: TableFormat = "json"
    records = list(_array_items(start) if start[0] == "[" else _json_lines(lines))
    if start[0] == "{" and (len(records) > 1 or (records and _is_one_line(text))):
        form = "jsonl"
    elif start[0] == "{":
        if not re.match(r'\{\s*("|\})', start):
            return None
        records = []  # one object over many lines: JSON, but no table
    elif not records and not re.match(r'\[\s*([\]\[{"\d-]|true|false|null)', start):
        return None
    if not all(isinstance(record, dict) for record in records):
        records = []
    columns = tuple(dict.fromkeys(key for record in records for key in record))
    places = tuple(range(len(columns)))
    problem = "" if columns or start[0] == "[" else _broken_line(lines)
    return Dialect(
        "", encoding, columns, form, _preview(lines), places, len(columns), ascii_only=ascii_only, problem=problem
    )


def _broken_line(lines: Sequence[str]) -> str:
    """Name the first line that is no JSON, where several lines begin as objects of their own."""
    if sum(line.lstrip().startswith("{") for line in lines) < 2:
        return ""
    found = _first_broken(lines)
    return f"line {found[0]} is {found[1]}" if found else ""


def _first_broken(lines: Iterable[str | bytes]) -> tuple[int, str] | None:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                json.loads(line)
            except json.JSONDecodeError as broken:
                return number, f"no JSON: {broken.msg} at its character {broken.pos + 1}"
            except (RecursionError, UnicodeDecodeError):
                return number, "nested too deeply, or not UTF-8"
    return None


def broken_json_line(path: Path) -> tuple[int, str] | None:
    """Find the first line of a file of one object per line that is no JSON: its number and why; None if all are.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return _first_broken(file)


def _is_one_line(text: str) -> bool:
    return "\n" not in text.strip()


def _array_items(text: str) -> Iterator[Any]:
    """Yield the complete items of an array whose end may be cut off."""
    decoder = json.JSONDecoder()
    place = 1
    while True:
        place = _skip(text, place, " \t\r\n,")
        try:
            item, place = decoder.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError):
            return
        yield item


def _skip(text: str, place: int, characters: str) -> int:
    while place < len(text) and text[place] in characters:
        place += 1
    return place


def _json_lines(lines: Iterable[str]) -> Iterator[Any]:
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                return


def _sniff_delimited(lines: Sequence[str], delimiter: str | None, encoding: str, *, ascii_only: bool) -> Dialect:
    skip = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if hint := _EXCEL_HINT.fullmatch(lines[skip].strip()):
        delimiter, skip = delimiter or hint[1], skip + 1
    body = lines[skip:]
    given = delimiter is not None
    delimiter = delimiter if delimiter is not None else _delimiter_of(body)
    records = _records(body, delimiter)
    if not records or (not given and not delimiter and not _is_one_column(body)):
        problem = _disagreement(body, delimiter, skip)
        return Dialect("", encoding, (), "text", _preview(lines), ascii_only=ascii_only, problem=problem)
    header = not all(_NUMBER.fullmatch(cell.strip()) for cell in records[0] if cell.strip())
    named = _name_columns(records, header=header)
    return Dialect(
        delimiter,
        encoding,
        tuple(named.values()),
        "delimited",
        _preview(body),
        tuple(named),
        len(records[0]),
        header,
        skip,
        ascii_only,
        _repeated(records[0]) if header else (),
    )


def _repeated(heads: Sequence[str]) -> tuple[str, ...]:
    names = [head.strip() for head in heads if head.strip()]
    return tuple(dict.fromkeys(name for name in names if names.count(name) > 1))


def _disagreement(lines: Sequence[str], delimiter: str, skipped: int) -> str:
    """Name the first line whose number of fields is not the first line's, by the delimiter that stands there most."""
    first = next((line for line in lines if line.strip()), "")
    delimiter = delimiter or max(_DELIMITERS, key=first.count)
    if delimiter not in first or _agreement(lines[:_SCORED_LINES], delimiter) < _NEARLY_SHARE:
        return ""
    reader = csv.reader(_with_ends(lines), delimiter=delimiter)
    width = 0
    try:
        for record in reader:
            width = width or len(record)
            if record and len(record) != width:
                line = reader.line_num + skipped
                return f"line {line} has {len(record)} field{'s'[: len(record) != 1]} where the first has {width}"
    except csv.Error as broken:
        return f"line {reader.line_num + skipped} cannot be read ({broken})"
    return ""


def _records(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if not delimiter:
        return [[line.strip().strip('"')] for line in lines if line.strip()]
    try:
        return [record for record in csv.reader(_with_ends(lines), delimiter=delimiter) if any(record)]
    except csv.Error:
        return []


def _with_ends(lines: Iterable[str]) -> Iterator[str]:
    return (line + "\n" for line in lines)


def _delimiter_of(lines: Sequence[str]) -> str:
    """Return the delimiter on whose number of fields most records agree with the header, or nothing.

    At equal agreement the earlier candidate wins, not the wider one: in `1,5;2,5` the comma finds more fields.
    """
    shares = {delimiter: _agreement(lines[:_SCORED_LINES], delimiter) for delimiter in _DELIMITERS}
    best = max(shares, key=lambda delimiter: shares[delimiter])
    return best if shares[best] >= _AGREEING_SHARE else ""


def _agreement(lines: Sequence[str], delimiter: str) -> float:
    records = _records(lines, delimiter)
    if not records or len(records[0]) < 2 or (len(records) == 1 and not _are_cells(records[0])):
        return 0.0  # a single sentence with a comma is no header
    return sum(len(record) == len(records[0]) for record in records) / len(records)


def _is_one_column(lines: Sequence[str]) -> bool:
    """Tell a column of values from prose and from records that disagree: short lines, no delimiter in the first."""
    cells = [line.strip() for line in lines if line.strip()]
    parted = any(len(record) > 1 for delimiter in _DELIMITERS for record in _records(cells[:1], delimiter))
    return len(cells) > 1 and not parted and _are_cells(cells)


def _are_cells(texts: Iterable[str]) -> bool:
    return all(len(text) <= _CELL_WIDTH and len(text.split()) <= _CELL_WORDS for text in texts)


def _name_columns(records: Sequence[Sequence[str]], *, header: bool) -> dict[int, str]:
    """Map the place of each column to its name; unnamed ones with values are called by their place."""
    width = len(records[0])
    heads = [cell.strip() for cell in records[0]] if header else [""] * width
    rows = records[1:] if header else records
    filled = {place for row in rows for place, cell in enumerate(row) if cell.strip()}
    named: dict[int, str] = {}
    for place, head in enumerate(heads):
        if head or place in filled:
            named[place] = _unused(head or f"column_{place + 1}", set(named.values()))
    return named


def _unused(name: str, used: set[str]) -> str:
    candidate, number = name, 2
    while candidate in used:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
