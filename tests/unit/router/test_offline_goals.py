from datetime import UTC, datetime
from typing import Any

import pytest

from raa_safety.domain.policy import Policy
from raa_safety.domain.verify import verify
from raa_schemas.artifact import Source
from raa_schemas.plan import Limits, Plan
from raa_schemas.tool import ToolSpec
from tests.unit.router.prompts import MOTORS, NORTH, PLANTS, SENSORS, SOUTH, ask, plan, query, short, step, tools

QUERIES = [
    ("Average of power (kW) in motors.csv", [MOTORS], "motors.csv: mean(power (kW))"),
    ("What is the mean power (kW)?", [MOTORS], "motors.csv: mean(power (kW))"),
    ("what's the average Power kW of motors", [MOTORS], "motors.csv: mean(power (kW))"),
    ("Please compute the AVERAGE fuel use in `motors.csv`.", [MOTORS], "motors.csv: mean(fuel_use)"),
    ("average power in motors.csv", [MOTORS], "motors.csv: mean(power (kW))"),
    ("fuel_use median", [MOTORS], "motors.csv: median(fuel_use)"),
    ("avg fule_use", [MOTORS], "motors.csv: mean(fuel_use)"),
    ("average fuel_use level for each class type", [MOTORS], "motors.csv: mean(fuel_use) | by class"),
    ("Give me the total fuel-use per maker", [MOTORS], "motors.csv: sum(fuel_use) | by maker"),
    ("sum of fuel_use by maker and class", [MOTORS], "motors.csv: sum(fuel_use) | by maker, class"),
    ("For each maker, the max of power (kW) and the average fuel_use", [MOTORS],
     "motors.csv: max(power (kW)), mean(fuel_use) | by maker"),
    ("min, max and mean of T", [MOTORS], "motors.csv: min(T), max(T), mean(T)"),
    ("mean T where Year >= 2010 and class is B", [MOTORS],
     "motors.csv: mean(T) | where Year >= 2010 and class == 'B'"),
    ("mean T for maker = Acme", [MOTORS], "motors.csv: mean(T) | where maker == 'Acme'"),
    ("mean T for maker 'Acme & Sons'", [MOTORS], "motors.csv: mean(T) | where maker == 'Acme & Sons'"),
    ("mean T with year at least 2010", [MOTORS], "motors.csv: mean(T) | where Year >= 2010"),
    ("mean T with a year of 2010 or more", [MOTORS], "motors.csv: mean(T) | where Year >= 2010"),
    ("mean T where year is not 2010", [MOTORS], "motors.csv: mean(T) | where Year != 2010"),
    ("mean T when Year is between 2010 and 2015", [MOTORS],
     "motors.csv: mean(T) | where Year >= 2010 and Year <= 2015"),
    ("mean T where maker is Acme or Bolt", [MOTORS], "motors.csv: mean(T) | where maker in ['Acme', 'Bolt']"),
    ("mean T where maker contains 'Ac'", [MOTORS], "motors.csv: mean(T) | where maker contains 'Ac'"),
    ("mean T where T is less than -1.5", [MOTORS], "motors.csv: mean(T) | where T < -1.5"),
    ("count motors with power (kW) over 90 by maker", [MOTORS],
     "motors.csv: count(*) | where power (kW) > 90 | by maker"),
    ("How many motors have a fuel_use below 5?", [MOTORS], "motors.csv: count(*) | where fuel_use < 5"),
    ("how many rows are in motors.csv", [MOTORS, NORTH], "motors.csv: count(*)"),
    ("Number of records per maker", [MOTORS], "motors.csv: count(*) | by maker"),
    ("total number of rows", [MOTORS], "motors.csv: count(*)"),
    ("count of fuel_use values", [MOTORS], "motors.csv: count(fuel_use)"),
    ("standard deviation of T", [MOTORS], "motors.csv: stddev(T)"),
    ("top 5 maker by average fuel_use", [MOTORS], "motors.csv: mean(fuel_use) | by maker | order mean desc | limit 5"),
    ("Top three makers by number of rows", [MOTORS], "motors.csv: count(*) | by maker | order count desc | limit 3"),
    ("bottom 2 maker by mean T where Year > 2000", [MOTORS],
     "motors.csv: mean(T) | where Year > 2000 | by maker | order mean asc | limit 2"),
    ("Which maker has the highest mean power (kW)?", [MOTORS],
     "motors.csv: mean(power (kW)) | by maker | order mean desc | limit 1"),
    ("which id has the lowest fuel_use", [MOTORS], "motors.csv: id, fuel_use | order fuel_use asc | limit 1"),
    ("top 10 id by fuel_use", [MOTORS], "motors.csv: id, fuel_use | order fuel_use desc | limit 10"),
    ("the 5 highest fuel_use values in motors.csv", [MOTORS], "motors.csv: fuel_use | order fuel_use desc | limit 5"),
    ("highest fuel_use", [MOTORS], "motors.csv: max(fuel_use)"),
    ("top 4 rows by fuel_use", [MOTORS], "motors.csv:  | order fuel_use desc | limit 4"),
    ("how many rows where T is missing", [MOTORS], "motors.csv: count(*) | where T == None"),
    ("how many motors have class not empty", [MOTORS], None),
    ("mean fuel_use where class is not empty", [MOTORS], "motors.csv: mean(fuel_use) | where class != None"),
    ("mean fuel_use where Year is two", [MOTORS], "motors.csv: mean(fuel_use) | where Year == 2"),
    ("how many T values are there", [MOTORS], "motors.csv: count(T)"),
    ("list id and maker where Year = 1999", [MOTORS], "motors.csv: id, maker | where Year == 1999"),
    ("mean leaf length by site in plants 2020.csv", [PLANTS, MOTORS], "plants 2020.csv: mean(leaf length) | by site"),
    ("mean Leaf_Length by species", [PLANTS, MOTORS], "plants 2020.csv: mean(leaf length) | by species"),
    ("sum of count by site", [PLANTS], "plants 2020.csv: sum(count) | by site"),
    ('mean of count where site is "A 1"', [PLANTS], "plants 2020.csv: mean(count) | where site == 'A 1'"),
    ("average of NOISE(dB) in sensors.jsonl", [SENSORS], "log/sensors.jsonl: mean(NOISE(dB))"),
    ("average of NOISE.2(dB) in log/sensors.jsonl", [SENSORS], "log/sensors.jsonl: mean(NOISE.2(dB))"),
    ("maximum größe by state", [SENSORS], "log/sensors.jsonl: max(Größe) | by state"),
    ("mean revenue in sales-north.csv where month is 2020-01", [NORTH, SOUTH], None),
    ("mean revenue in sales-north.csv where month >= 2020-01-15", [NORTH, SOUTH],
     "sales-north.csv: mean(revenue) | where month >= '2020-01-15'"),
    ("mean of revenue of the sales-south file", [NORTH, SOUTH], "sales-south.csv: mean(revenue)"),
]  # fmt: skip


@pytest.mark.parametrize(("goal", "sources", "expected"), QUERIES)
def test_goal_becomes_the_query_it_asks_for(goal: str, sources: list[Source], expected: str | None) -> None:
    if expected is None:
        assert "cannot" in ask(goal, *sources)
    else:
        assert short(query(goal, *sources)) == expected


CANNOT = [
    ("Forecast the fuel_use of next year", "'Forecast'"),
    ("mean of the last 10 rows of T", "'last'"),
    ("mean of T without class B", "'without'"),
    ("weighted mean of T", "'weighted'"),
    ("how many makers", "'how many makers'"),
    ("number of maker by class", "'number of maker'"),
    ("mean of T where T is positive", "'where'"),
    ("mean of T where class is A or maker is Acme", "'or'"),
    ("mean fuel_use of the maker with the lowest T", "'maker'"),
    ("T by maker", "nothing that can be computed"),
    ("mean of T in 2010", "'2010'"),
    ("is the mean of T above 5", "'5'"),
    ("mean of T where T > fuel_use", "'where'"),
    ("mean of T where T is above average", "'where'"),
    ("correlation of T and fuel_use", "'correlation'"),
    ("mean of speed in motors.csv", "'speed'"),
    ("mean of T in other.csv", "'other.csv'"),
    ("mean T by month", "'month'"),
    ("how many languages are spoken", "'languages'"),
    ("what is the capital of France", "'capital'"),
    ("what is T like in motors.csv", "nothing that can be computed"),
    ("delete motors.csv", "'delete'"),
    ("mean of T and write it to motors.csv", "overwriting"),
    ("mean of T and save it", "where"),
    ("top 5 mean T", "group"),
    ("how many different maker", "'different'"),
    ("compare the mean of T", "two"),
    ("mean", "mean"),
    ("T", "nothing that can be computed"),
]


@pytest.mark.parametrize(("goal", "why"), CANNOT)
def test_goal_outside_the_rules_is_refused_in_plain_words(goal: str, why: str) -> None:
    refusal = ask(goal, MOTORS)["cannot"]
    assert refusal.startswith("the goal asks ")
    assert why in refusal


def test_single_number_is_the_result_itself() -> None:
    assert plan("mean of T", MOTORS)["result"] == {"ref": "mean", "path": "/rows/0/mean"}


def test_groups_and_tops_result_in_their_rows() -> None:
    assert plan("mean of T by maker", MOTORS)["result"] == {"ref": "mean", "path": "/rows"}
    assert plan("top 3 id by T", MOTORS)["result"] == {"ref": "query", "path": "/rows"}


def test_several_functions_result_in_one_value_each() -> None:
    found = plan("min and max of T", MOTORS)
    assert found["result"] == {
        "min of T": {"ref": "min_max", "path": "/rows/0/min"}, "max of T": {"ref": "min_max", "path": "/rows/0/max"},
    }  # fmt: skip


def test_pointer_to_a_value_named_after_a_column_with_a_slash_is_escaped() -> None:
    found = plan("mean of km/h and mean of a~b", source_with("km/h", "a~b"))
    assert found["result"]["mean of km/h"]["path"] == "/rows/0/mean_km~1h"
    assert found["result"]["mean of a~b"]["path"] == "/rows/0/mean_a~0b"


def source_with(*columns: str) -> Source:
    return Source(name="f.csv", sha256="0" * 64, size=1, format="delimited", columns=list(columns))


def test_comparison_runs_both_queries_in_parallel_then_calculates_and_writes_once() -> None:
    found = plan("Compare the mean revenue of sales-north.csv and sales-south.csv and write report.md", NORTH, SOUTH)
    assert [one["tool"] for one in found["steps"]] == ["table.query", "table.query", "calculate", "file.write"]
    assert [one["after"] for one in found["steps"]] == [[], [], [], []]
    first, second = ({"ref": f"mean_{number}", "path": "/rows/0/mean"} for number in (1, 2))
    assert step(found, "calculate") == {"expression": "v1 - v2", "values": {"v1": first, "v2": second}}
    written = step(found, "file.write")
    assert written["path"] == "report.md"
    assert [part for part in written["parts"] if isinstance(part, dict)] == [
        first, second, {"ref": "difference", "path": "/value"},
    ]  # fmt: skip
    assert found["result"] == {
        "sales-north.csv": first, "sales-south.csv": second, "difference": {"ref": "difference", "path": "/value"},
    }  # fmt: skip


COMPARISONS = [
    "Which is larger, the mean revenue of sales-north.csv or of sales-south.csv?",
    "difference between the mean revenue in sales-north.csv and the mean revenue in sales-south.csv",
    "mean revenue: sales-north.csv vs. sales-south.csv",
    "Is the mean revenue of sales-north.csv higher than that of sales-south.csv?",
    "which file has the larger mean revenue, sales-north.csv or sales-south.csv",
    "compare mean revenue of both files",
    "Compare the mean revenue",
]


@pytest.mark.parametrize("goal", COMPARISONS)
def test_paraphrases_of_a_comparison_query_both_files(goal: str) -> None:
    found = plan(goal, NORTH, SOUTH)
    files = [one["args"]["table"]["file"] for one in found["steps"] if one["tool"] == "table.query"]
    assert files == ["sales-north.csv", "sales-south.csv"]
    assert step(found, "calculate")["expression"] == "v1 - v2"


def test_comparison_within_one_file_is_by_columns_or_by_conditions() -> None:
    columns = plan("Compare the mean of T and fuel_use", MOTORS)
    assert list(columns["result"]) == ["mean of T", "mean of fuel_use", "difference"]
    conditions = plan("compare the mean T for class = A and class = B", MOTORS)
    assert list(conditions["result"]) == ["class A", "class B", "difference"]


def test_three_values_are_compared_by_their_range() -> None:
    found = plan("compare the mean of T, fuel_use and Year", MOTORS)
    assert step(found, "calculate")["expression"] == "max(v1, v2, v3) - min(v1, v2, v3)"


def test_each_measure_belongs_to_the_file_named_with_it() -> None:
    found = plan("mean revenue of sales-north.csv and max units of sales-south.csv", NORTH, SOUTH)
    assert [short(one["args"]) for one in found["steps"]] == [
        "sales-north.csv: mean(revenue)", "sales-south.csv: max(units)",
    ]  # fmt: skip


def test_column_of_several_inputs_needs_a_file() -> None:
    assert "name the file" in ask("mean revenue", NORTH, SOUTH)["cannot"]
    assert len(plan("mean revenue in each file", NORTH, SOUTH)["steps"]) == 2


@pytest.mark.parametrize(
    ("goal", "path"),
    [
        ("mean of T and write it to out/t.md", "out/t.md"),
        ("Write report.md with the mean of T by maker", "report.md"),
        ("Write a short report on the mean of T", "report.md"),
        ("save the mean of T as 'mean.txt'", "mean.txt"),
    ],
)
def test_writing_adds_one_step_and_leaves_the_result_alone(goal: str, path: str) -> None:
    found = plan(goal, MOTORS)
    assert step(found, "file.write")["path"] == path
    assert found["result"]["ref"] == "mean"


ARITHMETIC = [
    ("what is 17 * (3 + 4)", "17 * (3 + 4)"),
    ("What is 2 plus 2?", "2 + 2"),
    ("calculate 2^10", "2 ** 10"),
    ("compute 12 divided by 5 minus 1", "12 / 5 - 1"),
    ("15% of 80", "(15 / 100) * 80"),
    ("square root of 16", "sqrt(16)"),
    ("How much is 3 \N{MULTIPLICATION SIGN} 4 =", "3 * 4"),
    ("what is the average of 3, 5 and 10?", "(3 + 5 + 10) / 3"),
    ("the sum of 1.5 and -2", "1.5 + (-2)"),
    ("largest of 4, 9 and 2", "max(4, 9, 2)"),
    ("max(3, abs(-7))", "max(3, abs(-7))"),
    ("-3 + 5", "-3 + 5"),
]


@pytest.mark.parametrize(("goal", "expression"), ARITHMETIC)
def test_arithmetic_is_calculated(goal: str, expression: str) -> None:
    found = plan(goal)
    assert step(found, "calculate")["expression"] == expression
    assert found["result"] == {"ref": "calculate", "path": "/value"}


@pytest.mark.parametrize(
    "goal", ["what is 17 * (3 + 4", "what is 5", "2 + + * 3", "what is 3 apples plus 4", "1 / foo(2)"]
)
def test_what_is_not_an_expression_is_not_calculated(goal: str) -> None:
    assert "cannot" in ask(goal)


def test_arithmetic_can_be_written_to_a_file() -> None:
    found = plan("calculate 6 * 7 and write it to answer.txt")
    assert step(found, "calculate")["expression"] == "6 * 7"
    assert step(found, "file.write")["path"] == "answer.txt"


def _tool(name: str, **properties: Any) -> ToolSpec:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:1],
        "additionalProperties": False,
    }
    return ToolSpec(name=name, arguments=schema)


SHOUT = _tool("shout", text={"type": "string"}, times={"type": "integer"}, loud={"type": "boolean"},
              tags={"type": "array"}, ratio={"anyOf": [{"type": "number"}, {"type": "null"}]})  # fmt: skip


@pytest.mark.parametrize(
    ("goal", "args"),
    [
        ("use shout with text=hello", {"text": "hello"}),
        ("Use the tool `shout` with text=hello world, times=3", {"text": "hello world", "times": 3}),
        ("use shout with text=hello times=3 loud=true", {"text": "hello", "times": 3, "loud": True}),
        ('use shout with text="a, b=c", times=3 and loud=true', {"text": "a, b=c", "times": 3, "loud": True}),
        ('use shout with text=42, tags=[1, "x"], ratio=0.5', {"text": "42", "tags": [1, "x"], "ratio": 0.5}),
        ("use shout with text='it is', ratio=null", {"text": "it is", "ratio": None}),
        ("use shout with text=, times=1", {"text": "", "times": 1}),
    ],
)
def test_use_tool_passes_its_arguments_in_the_types_of_the_schema(goal: str, args: dict[str, Any]) -> None:
    found = plan(goal, extra_tools=[SHOUT])
    assert found["steps"] == [{"id": "use", "tool": "shout", "args": args, "after": []}]
    assert found["result"] == {"ref": "use", "path": ""}


@pytest.mark.parametrize(
    ("goal", "why"),
    [
        ("use whisper with text=a", "whisper, which is not offered; there are calculate"),
        ("use shout with volume=3, text=a", "volume, which it does not take; it takes loud, ratio"),
        ("use shout with times=3", "without text"),
        ("use shout with all your might", "write name=value"),
    ],
)
def test_use_of_what_is_not_there_is_refused(goal: str, why: str) -> None:
    assert why in ask(goal, extra_tools=[SHOUT])["cannot"]


def test_files_can_be_listed_read_and_profiled() -> None:
    assert plan("list the files", MOTORS)["steps"][0]["tool"] == "file.list"
    assert step(plan("read motors.csv", MOTORS), "file.read") == {"file": "motors.csv"}
    assert step(plan("describe T and class of motors.csv", MOTORS), "table.profile")["columns"] == ["T", "class"]


def test_file_that_is_no_table_is_named_in_the_refusal() -> None:
    empty = Source(name="empty.csv", sha256="0" * 64, size=0, format="empty")
    assert "'T', which cannot be read from empty.csv" in ask("mean of T in empty.csv", empty, MOTORS)["cannot"]


def test_plan_needs_no_more_steps_and_no_other_tools_than_the_task_may_use() -> None:
    assert "raise max_steps" in ask("compare the mean of T and fuel_use", MOTORS, max_steps=2)["cannot"]
    assert "table.query, which is not offered" in ask("mean of T", MOTORS, without=["table.query"])["cannot"]


@pytest.mark.parametrize(
    ("goal", "sources"),
    [(goal, sources) for goal, sources, expected in QUERIES if expected]
    + [(goal, []) for goal, _ in ARITHMETIC]
    + [(goal, [NORTH, SOUTH]) for goal in COMPARISONS]
    + [("Compare the mean revenue of both files by shop and write report.md", [NORTH, SOUTH])],
)
def test_every_plan_passes_safetys_verification(goal: str, sources: list[Source]) -> None:
    found = Plan.model_validate(plan(goal, *sources))
    limits = Limits(deadline=datetime(2030, 1, 1, tzinfo=UTC))
    assert verify(found, limits, {tool.name: tool for tool in tools()}, Policy()) == []


def test_same_prompt_gets_the_same_plan() -> None:
    assert plan("min, max and mean of T by maker", MOTORS) == plan("min, max and mean of T by maker", MOTORS)
