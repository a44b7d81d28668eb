import pytest

from raa_schemas.plan import Step
from tests.unit.reflector.stories import Story, not_numeric, profile, profiled, query, rows, source, suspects

FILE = "AirQualityUCI.csv"
AIR = source(FILE)
COMMA = not_numeric("CO(GT)", ("9,9", 7129, "2,6"), ("-9,9", 91, "-200,0"))
DECIMAL = {"decimal": ","}


def test_run_1_learns_the_decimal_comma_at_attempt_2_and_the_sentinel_at_attempt_3() -> None:
    story = Story(AIR, check="result >= 0")

    first = story.attempt([query(FILE, "CO(GT)", step="mean")], {"mean": COMMA})
    assert (first.verdict, first.label.value, first.label.source) == ("replan", 0, "error")
    assert first.lessons == []
    [adjust] = first.hypotheses
    assert (adjust.kind, adjust.tool, adjust.file) == ("adjust_arguments", "table.query", FILE)
    assert adjust.then == {"args": {"table": {"read": DECIMAL}}}

    second = story.attempt([query(FILE, "CO(GT)", DECIMAL, step="mean")], {"mean": rows(-34.2075)}, value=-34.2075)
    assert (second.verdict, second.label.value, second.label.source) == ("replan", 0, "checker")
    [inspect] = second.hypotheses
    assert (inspect.kind, inspect.tool, inspect.file, inspect.columns) == (
        "inspect_values",
        "table.profile",
        FILE,
        ["CO(GT)"],
    )
    assert inspect.because == {"check": "result >= 0", "actual": -34.2075}
    [decimal] = second.lessons
    assert decimal.kind == "recover"
    assert (decimal.scope.family, decimal.scope.tool) == ("table.aggregate", "table.query")
    assert (decimal.when.source_sha256, decimal.when.schema_hash) == (AIR.sha256, AIR.schema_hash)
    assert decimal.then == {"args": {"table": {"read": DECIMAL}}}
    assert decimal.text == "Numbers in this table use a decimal comma."
    assert (decimal.evidence.failed, decimal.evidence.fixed) == (["v1/mean"], ["v2/mean"])
    assert decimal.state == "candidate"

    third = story.attempt(
        [profile(FILE, "CO(GT)", DECIMAL), query(FILE, "CO(GT)", {**DECIMAL, "missing": suspects()}, step="mean")],
        {"profile": profiled("CO(GT)", [-200]), "mean": rows(2.1527)},
        value=2.1527,
    )
    assert (third.verdict, third.label.value, third.label.confidence) == ("accept", 1, 1)
    assert third.hypotheses == []
    [sentinel] = third.lessons
    assert sentinel.then == {"args": {"table": {"read": {"missing": [-200]}}}}
    assert sentinel.text == "In this table -200 stands for a missing value."
    assert (sentinel.evidence.failed, sentinel.evidence.fixed) == (["v2/mean"], ["v3/profile", "v3/mean"])
    assert sentinel.id != decimal.id


def test_run_2_succeeds_at_once_with_both_lessons_and_learns_nothing_new() -> None:
    story = Story(AIR, check="result >= 0")
    read = {"decimal": ",", "missing": [-200]}
    told = story.attempt([query(FILE, "C6H6(GT)", read)], {"q": rows(10.0831)}, value=10.0831, lessons=["les_1"])
    assert (told.verdict, told.lessons) == ("accept", [])


def test_run_3_without_memory_accepts_the_wrong_value_and_learns_nothing() -> None:
    story = Story(AIR, check="result >= 0", memory=False)
    first = story.attempt([query(FILE, "C6H6(GT)")], {"q": COMMA})
    assert (first.verdict, len(first.hypotheses)) == ("replan", 1)
    second = story.attempt([query(FILE, "C6H6(GT)", DECIMAL)], {"q": rows(1.8657)}, value=1.8657)
    assert (second.verdict, second.lessons) == ("accept", [])


def test_run_4_accepts_two_queries_a_comparison_and_a_report() -> None:
    story = Story(source("red.csv"), source("white.csv", "2"))
    steps = [
        query("red.csv", "alcohol", step="red"),
        query("white.csv", "alcohol", step="white"),
        Step(
            id="compare",
            tool="calculate",
            args={
                "expression": "a - b",
                "values": {"a": {"ref": "red", "path": "/rows/0/mean"}, "b": {"ref": "white", "path": "/rows/0/mean"}},
            },
        ),
        Step(id="write", tool="file.write", args={"path": "r.md", "parts": [{"ref": "compare", "path": "/value"}]}),
    ]
    ends = {"red": rows(10.423), "white": rows(10.5143), "compare": {"value": -0.0913}, "write": {"path": "report.md"}}
    told = story.attempt(steps, ends, result={"ref": "write", "path": ""}, value={"path": "report.md"})
    assert (told.verdict, told.lessons, told.label.source) == ("accept", [], "unchecked")


def test_run_5_accepts_true_zeros() -> None:
    story = Story(source("seattle-weather.csv", delimiter=","))
    told = story.attempt([query("seattle-weather.csv", "precipitation")], {"q": rows(3.0294)}, value=3.0294)
    assert (told.verdict, told.hypotheses, told.lessons) == ("accept", [], [])


def test_run_6_without_a_check_learns_only_what_made_the_error_go_away() -> None:
    story = Story(AIR)
    story.attempt([query(FILE, "CO(GT)")], {"q": COMMA})
    second = story.attempt([query(FILE, "CO(GT)", DECIMAL)], {"q": rows(-34.2075)}, value=-34.2075)
    assert (second.verdict, second.label.source, second.report) == ("accept", "unchecked", None)
    assert second.label.confidence < 1
    assert [lesson.then for lesson in second.lessons] == [{"args": {"table": {"read": DECIMAL}}}]


@pytest.mark.parametrize("missing", [-999, -1, -77.5])
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_file_with_a_decimal_point_teaches_only_its_sentinel(missing: float, delimiter: str) -> None:
    story = Story(source("gen.csv", delimiter=delimiter), check="result >= 0")
    first = story.attempt([query("gen.csv", "tarn")], {"q": rows(-12.5)}, value=-12.5)
    assert (first.verdict, first.lessons) == ("replan", [])
    assert first.hypotheses[0].columns == ["tarn"]
    second = story.attempt(
        [profile("gen.csv", "tarn"), query("gen.csv", "tarn", {"missing": suspects()})],
        {"profile": profiled("tarn", [missing]), "q": rows(8.25)},
        value=8.25,
    )
    assert second.verdict == "accept"
    assert [lesson.then for lesson in second.lessons] == [{"args": {"table": {"read": {"missing": [missing]}}}}]


@pytest.mark.parametrize(
    "shapes",
    [
        [("9,9", 900, "12,345"), ("-9,9", 5, "-999,000")],
        [("9,9", 900, "1,25")],
        [("-9,9", 900, "-0,5"), (",9", 3, ",5")],
    ],
)
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_decimal_comma_is_seen_in_any_file_not_separated_by_commas(
    shapes: list[tuple[str, int, str]],
    delimiter: str,
) -> None:
    story = Story(source("gen.csv", delimiter=delimiter), check="result > 0")
    first = story.attempt([query("gen.csv", "x", fn="median")], {"q": not_numeric("x", *shapes)})
    assert first.hypotheses[0].then == {"args": {"table": {"read": DECIMAL}}}


def test_the_same_lesson_learned_twice_has_one_id() -> None:
    ids = []
    for column in ("CO(GT)", "NO2(GT)"):
        story = Story(AIR, check="result >= 0")
        story.attempt([query(FILE, column)], {"q": COMMA})
        told = story.attempt([query(FILE, column, DECIMAL)], {"q": rows(-34.2)}, value=-34.2)
        ids.append(told.lessons[0].id)
    assert ids[0] == ids[1]
