"""One reading of a file's first bytes serves the table tools and the planner's preview."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_runtime.tabular import HEAD_BYTES, normalise_column, read_head, schema_hash, sniff

DATA = Path(__file__).parents[3] / "examples" / "data"


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_and_columns_are_found_whatever_ends_the_lines(delimiter: str, end: str):
    lines = [delimiter.join(cells) for cells in (["a", "b c", "d"], ["1", "x", "2.5"], ["2", "y", "3"])]

    found = sniff((end.join(lines) + end).encode())

    assert (found.format, found.delimiter, found.columns) == ("delimited", delimiter, ("a", "b c", "d"))
    assert found.preview_lines == tuple(lines)


def test_decimal_commas_do_not_make_the_comma_a_delimiter():
    assert sniff(b"name;x;y\na;1,5;2,5\nb;1,0;3,25\n").delimiter == ";"
    assert sniff(b"1,5;2,5\n3,1;4,0\n").delimiter == ";"


def test_unnamed_trailing_columns_without_values_are_no_columns():
    found = sniff((DATA / "AirQualityUCI.csv").read_bytes())

    assert found.columns[0] == "Date"
    assert found.columns[-1] == "AH"
    assert (len(found.columns), found.width) == (15, 17)


def test_unnamed_column_with_values_is_called_by_its_place():
    assert sniff(b",a,b\n0,x,y\n1,x,y\n").columns == ("column_1", "a", "b")


def test_quoted_fields_may_hold_the_delimiter_and_line_ends():
    found = sniff(b'"last, first","note ; b",n\n"Doe, J","two\nlines",1\n"Roe, R","",2\n')

    assert found.delimiter == ","
    assert found.columns == ("last, first", "note ; b", "n")


def test_equal_names_are_told_apart():
    assert sniff(b"a;a;a\n1;2;3\n").columns == ("a", "a_2", "a_3")


def test_numbers_in_the_first_line_mean_that_there_is_no_header():
    found = sniff(b"1;2,5\n3;4,5\n")

    assert not found.header
    assert found.columns == ("column_1", "column_2")


def test_one_column_has_no_delimiter():
    found = sniff(b"value\n2,6\n3\n-200,0\n")

    assert (found.format, found.delimiter, found.columns) == ("delimited", "", ("value",))


def test_prose_is_text_unless_a_delimiter_is_given():
    prose = b"This is a letter, and it has several sentences in it.\nSome are long; some are not.\n"

    assert sniff(prose).format == "text"
    assert not sniff(prose).is_table
    assert sniff(b"just one line").format == "text"
    assert sniff(prose, delimiter=";").is_table


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("latin-1", "latin-1"), ("utf-16", "utf-16-le")],
)
def test_encoding_is_found_and_its_mark_is_no_part_of_a_name(encoding: str, expected: str):
    found = sniff("größe;maß\n1;ü\n".encode(encoding))

    assert found.encoding == expected
    assert found.columns == ("größe", "maß")


def test_windows_characters_are_told_from_latin_1():
    assert sniff("preis;text\n1;„5 €“\n".encode("cp1252")).encoding == "cp1252"


def test_plain_ascii_says_that_its_encoding_is_open():
    assert sniff(b"a;b\n1;2\n").ascii_only
    assert not sniff("ä;b\n1;2\n".encode()).ascii_only


@pytest.mark.parametrize("head", [b"", b" \r\n\n", b"\xef\xbb\xbf\n"])
def test_file_without_content_is_empty(head: bytes):
    assert sniff(head).format == "empty"


@pytest.mark.parametrize("head", [b"\x00\x01\x02", b"\x1f\x8b\x08abc", b"%PDF-1.7\nabc", b"a;b\n1;\x00\n"])
def test_binary_file_is_no_table(head: bytes):
    found = sniff(head)

    assert found.format == "binary"
    assert not found.is_table


def test_list_of_objects_is_a_table_with_the_union_of_their_keys():
    found = sniff(b'[{"a": 1, "b": "x"},\n {"a": 2, "c": null}]')

    assert (found.format, found.columns) == ("json", ("a", "b", "c"))


def test_objects_on_lines_are_a_table():
    assert sniff(b'{"a": 1}\n\n{"b": 2}\n').columns == ("a", "b")
    assert sniff(b'{"a": 1}').format == "jsonl"


@pytest.mark.parametrize("head", [b'{\n "a": 1\n}', b"[1, 2, 3]", b"[]", b"{}"])
def test_other_json_is_json_but_no_table(head: bytes):
    found = sniff(head)

    assert found.format in {"json", "jsonl"}
    assert not found.is_table


def test_a_cut_head_gives_the_same_columns_as_the_whole(tmp_path: Path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps([{"number": number, "text": "x" * 50} for number in range(5000)]))

    head = read_head(path)

    assert len(head) == HEAD_BYTES
    assert sniff(head).columns == ("number", "text")


def test_spreadsheet_hint_in_the_first_line_is_believed():
    found = sniff(b"sep=|\na|b\n1|2\n")

    assert (found.delimiter, found.columns, found.skip_lines) == ("|", ("a", "b"), 1)


def test_schema_hash_follows_names_and_delimiter_but_not_spelling():
    same = schema_hash(["CO(GT)", "fixed acidity"], ";")

    assert same == schema_hash([" co(gt)", "Fixed_Acidity"], ";")
    assert same != schema_hash(["CO(GT)", "fixed acidity"], ",")
    assert same != schema_hash(["fixed acidity", "CO(GT)"], ";")
    assert len(same) == len("sch_") + 16


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(head: bytes):
    found = sniff(head)

    assert len(found.columns) == len(found.positions) == len(set(found.columns))


_names = st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9 ()_]{0,8}[A-Za-z0-9)]", fullmatch=True), min_size=2, max_size=8)


@given(
    _names.filter(lambda names: len(set(names)) == len(names)),
    st.sampled_from(";\t|"),
    st.lists(st.integers(-99, 99), min_size=3, max_size=9),
)
def test_any_table_with_decimal_commas_is_read_by_its_delimiter(names: list[str], delimiter: str, rows: list[int]):
    lines = [delimiter.join(names), *(delimiter.join([f"{number},5"] * len(names)) for number in rows)]

    found = sniff("\n".join(lines).encode())

    assert (found.delimiter, found.columns) == (delimiter, tuple(names))


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing_more(name: str):
    assert normalise_column(normalise_column(name)) == normalise_column(name)


def test_header_without_rows_is_a_table_and_a_sentence_is_not():
    assert sniff(b"a,b,c\n").columns == ("a", "b", "c")
    assert sniff(b"Only a sentence, without any table in it.").format == "text"


def test_records_that_disagree_are_not_taken_for_one_column():
    assert sniff(b'a;b\n1;2\n"3;4\n5;6\n7;8\n9;0\n').format == "text"
    assert sniff(b'""\n""\n').format in {"text", "delimited"}
