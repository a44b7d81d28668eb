"""Tables are read as they are written; truth is computed here by other means, from the same files."""

import asyncio
import csv
import json
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.registry import CallContext, ToolError, Workspace, call

DATA = Path(__file__).parents[3] / "examples" / "data"
CONTEXT = CallContext("key", "acme", "task", "step", 1, datetime(2026, 1, 1, tzinfo=UTC))


def run(file: Path, tool: str, read: dict[str, Any] | None = None, /, **args: Any) -> Any:
    workspace = Workspace(file.parent / "step", {file.name: file})
    table = {"file": file.name, **({"read": read} if read is not None else {})}
    return asyncio.run(call(built_in_tools(), tool, {"table": table, **args}, workspace, CONTEXT))


def value(file: Path, fn: str, column: str, read: dict[str, Any] | None = None, **args: Any) -> Any:
    found = run(file, "table.query", read, select=[{"fn": fn, "column": column, "as": "value"}], **args)
    assert found["row_count"] == 1
    return found["rows"][0]["value"]


def failure(file: Path, tool: str, read: dict[str, Any] | None = None, /, **args: Any) -> ToolError:
    with pytest.raises(ToolError) as raised:
        run(file, tool, read, **args)
    return raised.value


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The examples, linked to where a step may write."""
    for file in DATA.glob("*.csv"):
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


@pytest.fixture
def made(tmp_path: Path) -> Any:
    def make(content: str | bytes, name: str = "made.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
        return path

    return make


def column_of(name: str, column: str, delimiter: str) -> list[float]:
    """Read one column by the csv module, decimal comma or point, without the empty rows."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        cells = [row[column] for row in csv.DictReader(file, delimiter=delimiter)]
    return [float(cell.replace(",", ".")) for cell in cells if cell]


AIR = "AirQualityUCI.csv"


@pytest.mark.parametrize(
    ("column", "with_code", "without"),
    [("CO(GT)", -34.2075, 2.1527), ("C6H6(GT)", 1.8657, 10.0831), ("NO2(GT)", 58.1489, 113.0913)],
)
def test_air_quality_with_and_without_its_code_for_missing(column: str, with_code: float, without: float, data: Path):
    truth = column_of(AIR, column, ";")
    measured = [number for number in truth if number != -200]

    first = value(data / AIR, "mean", column, {"decimal": ","})
    second = value(data / AIR, "mean", column, {"decimal": ",", "missing": [-200]})

    assert first == pytest.approx(fmean(truth), rel=1e-12)
    assert second == pytest.approx(fmean(measured), rel=1e-12)
    assert (round(first, 4), round(second, 4)) == (with_code, without)
    assert value(data / AIR, "count", column, {"decimal": ",", "missing": [-200]}) == len(measured)
    assert value(data / AIR, "median", column, {"decimal": ",", "missing": [-200]}) == median(measured)


@pytest.mark.parametrize(
    ("file", "column", "delimiter", "expected"),
    [
        ("winequality-red.csv", "alcohol", ";", 10.4230),
        ("winequality-white.csv", "alcohol", ";", 10.5143),
        ("seattle-weather.csv", "precipitation", ",", 3.0294),
    ],
)
def test_means_of_the_other_examples(file: str, column: str, delimiter: str, expected: float, data: Path):
    found = value(data / file, "mean", column)

    assert found == pytest.approx(fmean(column_of(file, column, delimiter)), rel=1e-12)
    assert round(found, 4) == expected


def test_decimal_comma_is_one_typed_error_with_all_shapes(data: Path):
    error = failure(data / AIR, "table.query", select=[{"fn": "mean", "column": "CO(GT)"}])

    assert error.code == "not_numeric"
    assert error.message == "7220 of 9357 values of CO(GT) are not numbers, for example '2,6'; set read.decimal"
    assert error.details == {
        "column": "CO(GT)",
        "shapes": [
            {"shape": "9,9", "count": 7129, "example": "2,6"},
            {"shape": "-9,9", "count": 91, "example": "-200,0"},
        ],
    }


def test_empty_rows_at_the_end_are_no_rows(data: Path):
    assert value(data / AIR, "count", "*") == 9357


def test_profile_suspects_the_code_in_every_numeric_column_of_air_quality(data: Path):
    found = run(data / AIR, "table.profile", {"decimal": ","})
    numeric = [column for column in found["columns"] if column["kind"] == "number"]

    assert found["row_count"] == 9357
    assert [column["suspects"] for column in numeric] == [[-200]] * 13
    assert [column["name"] for column in found["columns"] if column["kind"] == "text"] == ["Date", "Time"]


@pytest.mark.parametrize("file", ["winequality-red.csv", "winequality-white.csv", "seattle-weather.csv"])
def test_profile_suspects_nothing_in_wine_and_weather(file: str, data: Path):
    found = run(data / file, "table.profile")

    assert all(column["suspects"] == [] for column in found["columns"] if column["kind"] == "number")


def test_profile_agrees_with_plain_python(data: Path):
    truth = sorted(column_of("winequality-red.csv", "pH", ";"))
    profile = run(data / "winequality-red.csv", "table.profile", columns=["pH"])["columns"][0]

    assert (profile["count"], profile["missing"], profile["distinct"]) == (len(truth), 0, len(set(truth)))
    assert (profile["min"], profile["max"], profile["quantiles"]["0.5"]) == (truth[0], truth[-1], median(truth))
    most = max(set(truth), key=truth.count)
    assert profile["most_frequent"][0] == {"value": most, "count": truth.count(most)}


def test_profile_of_a_column_with_another_decimal_sign_says_so(data: Path):
    assert failure(data / AIR, "table.profile", columns=["CO(GT)"]).code == "not_numeric"
    assert run(data / AIR, "table.profile", columns=["Date"])["columns"][0]["kind"] == "text"


def test_groups_filters_and_order(data: Path):
    with (DATA / "seattle-weather.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["temp_max"]) > 20 and row["weather"] != "fog"]
    truth = {
        kind: [float(row["wind"]) for row in rows if row["weather"] == kind] for kind in {r["weather"] for r in rows}
    }

    found = run(
        data / "seattle-weather.csv",
        "table.query",
        select=[{"fn": "count"}, {"fn": "mean", "column": "wind", "as": "wind"}],
        where=[
            {"column": "temp_max", "op": ">", "value": 20},
            {"column": "weather", "op": "not in", "value": ["fog"]},
        ],
        group_by=["weather"],
        order_by=[{"as": "wind", "desc": True}],
    )

    assert found["columns"] == ["weather", "count", "wind"]
    assert {row["weather"]: row["count"] for row in found["rows"]} == {k: len(v) for k, v in truth.items()}
    assert all(row["wind"] == pytest.approx(fmean(truth[row["weather"]])) for row in found["rows"])
    assert all(first["wind"] >= second["wind"] for first, second in pairwise(found["rows"]))


def test_top_n_sorts_numbers_as_numbers(made: Any):
    file = made("name;n\nb;9\na;10\nc;\nd;-3\n")

    found = run(
        file, "table.query", select=[{"column": "name"}, {"column": "n"}], order_by=[{"column": "n", "desc": True}]
    )

    assert found["rows"] == [{"name": n, "n": v} for n, v in (("a", 10), ("b", 9), ("d", -3), ("c", None))]


def test_numbers_of_another_spelling_are_not_sorted_as_texts(made: Any):
    file = made("n;m\n9,5;1\n10,1;2\n")

    assert failure(file, "table.query", order_by=[{"column": "n"}]).code == "not_numeric"
    assert [row["n"] for row in run(file, "table.query", {"decimal": ","}, order_by=[{"column": "n"}])["rows"]] == [
        9.5,
        10.1,
    ]


def test_limit_says_when_there_is_more(made: Any):
    file = made("a;b\n1;2\n3;4\n5;6\n")

    assert run(file, "table.query", limit=2)["truncated"]
    assert run(file, "table.query", limit=3) == {
        "rows": [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}],
        "row_count": 3,
        "columns": ["a", "b"],
        "truncated": False,
    }


def test_codes_with_leading_zeros_stay_text(made: Any):
    rows = run(made("zip;n\n01234;1\n10001;0.5\n"), "table.query")["rows"]

    assert rows[0] == {"zip": "01234", "n": 1}
    assert rows[1] == {"zip": "10001", "n": 0.5}


@pytest.mark.parametrize(
    ("op", "operand", "expected"),
    [
        ("==", 5, ["b"]),
        ("=", "5.0", ["b"]),
        ("==", "5", []),
        ("!=", 5, ["a", "d"]),
        ("<", 5, ["a"]),
        (">=", 5, ["b", "d"]),
        ("in", [1, "7"], ["a", "d"]),
        ("not in", [1], ["b", "d"]),
        ("==", None, ["c"]),
        ("!=", None, ["a", "b", "d"]),
        ("in", [None, 1], ["a", "c"]),
        ("contains", "7", ["d"]),
    ],
)
def test_json_type_of_the_value_decides_what_is_compared(op: str, operand: Any, expected: list[str], made: Any):
    file = made("k;n\na;1\nb;5.0\nc;\nd;7\n")

    found = run(file, "table.query", select=[{"column": "k"}], where=[{"column": "n", "op": op, "value": operand}])

    assert [row["k"] for row in found["rows"]] == expected


@pytest.mark.parametrize(
    ("cells", "read", "expected"),
    [
        (["1.234,5", "2", "-1.000"], {"decimal": ",", "thousands": "."}, [1234.5, 2, -1000]),
        (["1'234.5", "7"], {"thousands": "'"}, [1234.5, 7]),
        (["1 234,5", "1\u00a0000", "3"], {"decimal": ",", "thousands": " "}, [1234.5, 1000, 3]),
        (["NA", "1e3", "-", " 2 ", "-999.0", "-999"], {"missing": ["NA", "-", -999]}, [1000, 2]),
        (["+1.5", ".5", "2."], {}, [1.5, 0.5, 2]),
    ],
)
def test_read_options_say_how_numbers_are_written(cells: list[str], read: dict[str, Any], expected: Any, made: Any):
    file = made("\n".join(["n;x", *(f"{cell};1" for cell in cells)]))

    assert value(file, "count", "n", read) == len(expected)
    assert value(file, "sum", "n", read) == pytest.approx(sum(expected))
    assert value(file, "min", "n", read) == min(expected)
    assert value(file, "max", "n", read) == max(expected)


@pytest.mark.parametrize("cell", ["nan", "inf", "1_000", "0x10", "1,2", "1.2.3", "5%", "--1", "1e400", "true"])
def test_only_plain_numbers_are_numbers(cell: str, made: Any):
    error = failure(made(f"n;x\n1;1\n{cell};1\n"), "table.query", select=[{"fn": "sum", "column": "n"}])

    assert error.code == "not_numeric"
    assert error.details["shapes"][0]["example"] == cell


@pytest.mark.parametrize(
    ("cells", "read", "remedy"),
    [
        (["2,6", "12,75"], {}, "set read.decimal"),
        (["1,234", "12,345,678"], {}, "set read.thousands"),
        (["1.234,5", "3,25"], {}, "set read.decimal and read.thousands"),
        (["NA", "n/a"], {}, "set read.missing"),
        (["2,6", "NA"], {}, "set read.decimal and read.missing"),
        (["2.6"], {"decimal": ","}, "set read.decimal"),
    ],
)
def test_message_names_the_read_options_to_set(cells: list[str], read: dict[str, Any], remedy: str, made: Any):
    file = made("\n".join(["n;x", "1;1", *(f"{cell};1" for cell in cells)]))

    error = failure(file, "table.query", read, select=[{"fn": "mean", "column": "n"}])

    assert set(error.message.partition("; set ")[2].split(" and ")) == set(remedy.removeprefix("set ").split(" and "))


def test_one_column_file_is_a_table(made: Any):
    file = made("value\r\n2,6\r\n\r\n3\r\n-200,0\r\n")

    assert value(file, "sum", "value", {"decimal": ",", "missing": [-200]}) == pytest.approx(5.6)
    assert value(file, "count", "*") == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le"])
def test_encodings_are_found_or_given(encoding: str, made: Any):
    file = made("größe;maß\nä;1\nü;2\n", encoding=encoding)
    read = {"encoding": encoding} if encoding == "utf-16-le" else None

    assert run(file, "table.query", read)["rows"][0] == {"größe": "ä", "maß": 1}


def test_encoding_that_shows_only_after_the_first_bytes_is_still_read(made: Any):
    file = made(b"k;n\n" + b"plain;1\n" * 20_000 + "Käse;2\n".encode("latin-1"))

    found = run(file, "table.query", where=[{"column": "n", "value": 2}])

    assert found["rows"] == [{"k": "Käse", "n": 2}]


def test_wrong_encoding_is_an_error_that_says_what_to_set(made: Any):
    file = made("k;n\nä;1\n".encode() + b"\xe4;2\n")

    error = failure(file, "table.query", {"encoding": "utf-8"})

    assert error.code == "not_a_table"
    assert "read.encoding" in error.message
    assert failure(file, "table.query", {"encoding": "klingon"}).code == "bad_arguments"


def test_line_ends_may_be_mixed(made: Any):
    assert value(made(b"a;b\r\n1;2\n3;4\r\n"), "sum", "a") == 4


def test_quoted_cells_hold_delimiters_and_line_ends(made: Any):
    rows = run(made('t;n\n"a;b";1\n"two\nlines";2\n"say ""x""";3\n'), "table.query")["rows"]

    assert [row["t"] for row in rows] == ["a;b", "two\nlines", 'say "x"']


def test_short_records_are_padded_and_long_ones_are_an_error(made: Any):
    assert run(made("a;b\n1;2\n3\n5;6\n7;8\n9;1\n"), "table.query")["rows"][1] == {"a": 3, "b": None}

    error = failure(made("a;b\n1;2\n3;4\n5;6\n7;8\n1;2;3\n"), "table.query")

    assert (error.code, error.details["line"]) == ("not_a_table", 6)


def test_open_quote_is_an_error_and_swallows_nothing(made: Any):
    assert failure(made('a;b\n1;2\n"3;4\n5;6\n7;8\n9;0\n'), "table.query").code == "not_a_table"


def test_json_tables_keep_keys_that_differ_in_case(made: Any):
    records = [{"a": 1.5, "A": "x", "b/c": True, "d": [1]}, {"a": None, "A": "y"}, {"a": "2", "e": 1}]
    expected = {"a": 1.5, "A": "x", "b/c": "true", "d": "[1]", "e": None}

    array = made(json.dumps(records), "t.json")
    lines = made("\n".join(map(json.dumps, records)), "t.jsonl")

    assert run(array, "table.query")["rows"][0] == expected
    assert run(lines, "table.query")["rows"][0] == expected
    assert value(array, "sum", "a") == value(lines, "sum", "a") == 3.5


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\r\n \n", "empty_file"),
        (b"\x00\x01binary" * 20, "not_a_table"),
        (b"\x1f\x8b\x08\x00compressed", "not_a_table"),
        (b"Only a sentence, without any table in it.", "not_a_table"),
        (b'{\n"a": 1\n}', "not_a_table"),
        (b"[1, 2]", "not_a_table"),
        (b'[{"a": 1}, {"a": ', "not_a_table"),
    ],
)
def test_what_is_no_table_is_said_plainly(content: bytes, code: str, made: Any):
    for tool in ("table.query", "table.profile"):
        assert failure(made(content), tool).code == code


def test_missing_file_and_unknown_column_name_what_there_is(data: Path):
    assert failure(data / "absent.csv", "table.query").code == "file_not_found"
    error = failure(data / "winequality-red.csv", "table.query", select=[{"fn": "mean", "column": "alcool"}])
    assert (error.code, error.details["near"]) == ("unknown_column", ["alcohol"])
    assert failure(data / AIR, "table.profile", columns=["CO"]).details["near"][0] == "CO(GT)"


def test_name_may_differ_in_case_and_spaces(data: Path):
    assert value(data / "winequality-red.csv", "min", "Fixed_Acidity") == 4.6


@pytest.mark.parametrize(
    "args",
    [
        {"select": [{"fn": "mean", "column": "*"}]},
        {"select": [{"fn": "mean", "column": "a"}, {"column": "b"}]},
        {"select": [{"column": "a"}, {"column": "b", "as": "a"}]},
        {"where": [{"column": "a", "op": "in", "value": 1}]},
        {"where": [{"column": "a", "op": "like", "value": "1"}]},
        {"order_by": [{"as": "nothing"}]},
        {"select": [{"fn": "count"}], "order_by": [{"column": "a"}]},
        {"order_by": [{"column": "a", "as": "a"}]},
        {"limit": 0},
        {"sql": "DROP TABLE cells"},
    ],
)
def test_arguments_that_mean_nothing_are_refused(args: dict[str, Any], made: Any):
    assert failure(made("a;b\n1;2\n3;4\n"), "table.query", **args).code == "bad_arguments"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(text=st.text(min_size=1, max_size=20).filter(lambda text: text.strip() == text and text != "*"))
def test_names_and_values_never_become_sql(text: str, made: Any):
    name = text + "'\"); DROP TABLE cells; --"
    file = made(json.dumps([{name: name, "n": 1}, {name: "other", "n": 2}]), "t.json")

    found = run(
        file,
        "table.query",
        {"missing": [name + "x"]},
        select=[{"fn": "sum", "column": "n", "as": name}],
        where=[{"column": name, "op": "==", "value": name}],
    )

    assert found["rows"] == [{name: 1.0}]


def test_sandbox_reads_the_given_file_and_nothing_else(made: Any):
    import duckdb

    from raa_executor.tools.duck import open_sandbox

    allowed, other = made("a;b\n1;2\n", "allowed'.csv"), made("a;b\n1;2\n", "other.csv")
    with open_sandbox([allowed], 5) as sandbox:
        assert len(sandbox.query("FROM read_csv(?)", [str(allowed)])) == 1
        for refused in (
            f"FROM read_csv('{other}')",
            f"FROM read_csv('{allowed.parent}/x/../other.csv')",
            "FROM read_text('/proc/self/environ')",
            "SET enable_external_access = true",
            "SET memory_limit = '8GB'",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.Error):
                sandbox.query(refused)


def test_query_without_end_is_interrupted():
    from raa_executor.tools.duck import open_sandbox

    with open_sandbox([], 0.05) as sandbox, pytest.raises(ToolError) as raised:
        sandbox.query("SELECT count(*) FROM range(100000000000) r WHERE hash(r.range) % 7 = 3")

    assert raised.value.code == "tool_timeout"


PROBE = """
import asyncio, json, sys
from datetime import UTC, datetime
from pathlib import Path
from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.registry import CallContext, Workspace, call
assert "duckdb" not in sys.modules
folder, size = Path(sys.argv[1]), int(sys.argv[2])
rows, words = 0, "some words " * 8
with (folder / "big.csv").open("w") as file:
    written = file.write("id;station;note;n\\n")
    while written < size:
        written += file.write(f"{rows};st{rows % 50};{words}{rows};{-999 if rows % 40 == 0 else rows % 500}\\n")
        rows += 1
context = CallContext("k", "t", "task", "s", 1, datetime.now(UTC))
def run(name, **args):
    args["table"] = {"file": "big.csv", "read": {"missing": []}}
    return asyncio.run(call(built_in_tools(), name, args, Workspace(folder, {"big.csv": folder / "big.csv"}), context))
counted = run("table.query", select=[{"fn": "count"}, {"fn": "max", "column": "id"}])["rows"][0]
profile = run("table.profile", columns=["n", "id"])["columns"]
# not ru_maxrss: after a fork that starts at what the parent had
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"rows": rows, "counted": counted, "suspects": [one["suspects"] for one in profile],
    "exact": [one["exact"] for one in profile], "peak_kb": peak}))
"""


def test_large_file_is_streamed_in_bounded_memory(tmp_path: Path):
    def measure(size: int) -> dict[str, Any]:
        command = [sys.executable, "-c", PROBE, str(tmp_path), str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    half, whole = measure(20_000_000), measure(50_000_000)

    for report in (half, whole):
        assert report["counted"] == {"count": report["rows"], "max": report["rows"] - 1}
        assert report["suspects"] == [[-999], []]
        assert report["exact"] == [True, False]
    assert whole["peak_kb"] < 400_000
    assert whole["peak_kb"] - half["peak_kb"] < 100_000


def test_code_for_missing_is_found_among_more_distinct_values_than_are_counted(made: Any):
    lines = ["k;n", *(f"{k};{-99999 if k % 100 == 0 else k / 8}" for k in range(120_000))]

    codes, numbers = run(made("\n".join(lines)), "table.profile", columns=["n", "k"])["columns"]

    assert (codes["exact"], codes["suspects"], codes["min"], codes["max"]) == (False, [-99999], -99999, 119_999 / 8)
    assert codes["most_frequent"][0] == {"value": -99999, "count": 1200}
    assert codes["quantiles"]["0.5"] == pytest.approx(60_000 / 8, rel=0.05)
    assert numbers["suspects"] == []
