from typing import Any

import pytest

from tests.unit.router.prompts import MOTORS, NORTH, SOUTH, Json, ask, plan, query, step

COMMA = {"shape": "9,9", "count": 90, "example": "2,6"}
LESSON_COMMA = {
    "id": "les_comma", "applies_to": ["motors.csv"], "tool": "table.query",
    "when": {}, "then": {"args": {"table": {"read": {"decimal": ","}}}}, "text": "decimal comma",
}  # fmt: skip
LESSON_MISSING = {
    "id": "les_missing", "applies_to": ["motors.csv"], "tool": "table.query",
    "when": {}, "then": {"args": {"table": {"read": {"missing": [-99]}}}}, "text": "-99 is no value",
}  # fmt: skip
INSPECT = {"kind": "inspect_values", "tool": "table.profile", "file": "motors.csv", "columns": ["T"], "because": {}}


def failed(number: int, found: Json, *shapes: Json, column: str = "T", total: int = 100) -> Json:
    """An attempt whose first table step could not parse its values."""
    bad = next(one for one in found["steps"] if one["tool"].startswith("table."))
    count = sum(shape["count"] for shape in shapes)
    error = {"code": "not_numeric", "message": f"{count} of {total} values of {column} are not numbers",
             "details": {"column": column, "shapes": list(shapes)}}  # fmt: skip
    return {"attempt": number, "plan": found, "failed_step": {"step": bad["id"], "tool": bad["tool"], "error": error},
            "check": None, "hypotheses": []}  # fmt: skip


def unchecked(number: int, found: Json, *hypotheses: Json) -> Json:
    return {"attempt": number, "plan": found, "failed_step": None, "hypotheses": list(hypotheses),
            "check": {"check": "result >= 0", "value": False, "reason": None, "failed_atom": None}}  # fmt: skip


def read(found: Json) -> Any:
    return step(found, "table.query")["table"].get("read")


def test_first_plan_knows_nothing_about_how_numbers_are_written() -> None:
    assert query("mean of T", MOTORS)["table"] == {"file": "motors.csv"}


def test_a_failure_then_a_failed_check_lead_to_the_three_plans_of_a_first_encounter() -> None:
    goal = "Average of T in motors.csv"
    first = plan(goal, MOTORS)
    attempts = [failed(1, first, COMMA)]
    second = plan(goal, MOTORS, earlier_attempts=attempts)
    assert read(second) == {"decimal": ","}
    attempts.append(unchecked(2, second, INSPECT))
    third = plan(goal, MOTORS, earlier_attempts=attempts)
    assert third["steps"] == [
        {"id": "profile", "tool": "table.profile", "after": [],
         "args": {"table": {"file": "motors.csv", "read": {"decimal": ","}}, "columns": ["T"]}},
        {"id": "mean", "tool": "table.query", "after": [],
         "args": {"table": {"file": "motors.csv", "read": {
                      "decimal": ",", "missing": {"ref": "profile", "path": "/columns/0/suspects"}}},
                  "select": [{"fn": "mean", "column": "T", "as": "mean"}],
                  "where": [], "group_by": [], "order_by": [], "limit": 1000}},
    ]  # fmt: skip
    assert third["result"] == {"ref": "mean", "path": "/rows/0/mean"}
    assert third["lessons"] == []


def test_lessons_make_the_first_plan_right_and_are_cited() -> None:
    found = plan("mean of fuel_use", MOTORS, lessons=[LESSON_COMMA, LESSON_MISSING])
    assert read(found) == {"decimal": ",", "missing": [-99]}
    assert found["lessons"] == ["les_comma", "les_missing"]


def test_lists_of_two_lessons_are_united() -> None:
    other = LESSON_MISSING | {"id": "les_na", "then": {"args": {"table": {"read": {"missing": ["NA", -99]}}}}}
    assert read(plan("mean of T", MOTORS, lessons=[LESSON_MISSING, other])) == {"missing": [-99, "NA"]}


def test_lesson_about_another_input_or_tool_is_neither_applied_nor_cited() -> None:
    elsewhere = LESSON_COMMA | {"applies_to": ["sales-north.csv"]}
    other_tool = LESSON_COMMA | {"tool": "calculate"}
    found = plan("mean of T in motors.csv", MOTORS, NORTH, lessons=[elsewhere, other_tool])
    assert read(found) is None
    assert found["lessons"] == []


def test_lesson_reaches_only_the_input_it_applies_to() -> None:
    lesson = LESSON_COMMA | {"applies_to": ["sales-south.csv"]}
    found = plan("compare the mean revenue of sales-north.csv and sales-south.csv", NORTH, SOUTH, lessons=[lesson])
    assert [one["args"]["table"].get("read") for one in found["steps"][:2]] == [None, {"decimal": ","}]
    assert found["lessons"] == ["les_comma"]


def test_profile_reads_with_the_options_a_lesson_gave_the_query() -> None:
    first = plan("mean of T", MOTORS, lessons=[LESSON_COMMA])
    found = plan("mean of T", MOTORS, lessons=[LESSON_COMMA], earlier_attempts=[unchecked(1, first, INSPECT)])
    assert step(found, "table.profile")["table"]["read"] == {"decimal": ","}


def test_suspects_join_known_missing_values_as_items_of_one_list() -> None:
    lessons = [LESSON_MISSING]
    first = plan("mean of T", MOTORS, lessons=lessons)
    found = plan("mean of T", MOTORS, lessons=lessons, earlier_attempts=[unchecked(1, first, INSPECT)])
    assert read(found) == {"missing": [-99, {"ref": "profile", "path": "/columns/0/suspects/0"}]}
    assert step(found, "table.profile")["table"]["read"] == {"missing": [-99]}


def test_inspection_concerns_only_queries_that_compute_with_the_column() -> None:
    first = plan("mean of fuel_use", MOTORS)
    found = plan("mean of fuel_use", MOTORS, earlier_attempts=[unchecked(1, first, INSPECT)])
    assert found == first


def test_adjustment_of_a_hypothesis_is_merged() -> None:
    adjust = {"kind": "adjust_arguments", "tool": "table.query", "file": "motors.csv",
              "then": {"args": {"table": {"read": {"thousands": "."}}}}}  # fmt: skip
    first = plan("mean of T", MOTORS)
    assert read(plan("mean of T", MOTORS, earlier_attempts=[unchecked(1, first, adjust)])) == {"thousands": "."}


def test_what_every_earlier_error_taught_is_kept() -> None:
    first = plan("mean of T", MOTORS)
    attempts = [failed(1, first, COMMA)]
    second = plan("mean of T", MOTORS, earlier_attempts=attempts)
    attempts.append(failed(2, second, {"shape": "a", "count": 3, "example": "NA"}))
    assert read(plan("mean of T", MOTORS, earlier_attempts=attempts)) == {"decimal": ",", "missing": ["NA"]}


def shape(text: str, example: str, count: int = 10, grouped: int = 0) -> Json:
    return {"shape": text, "count": count, "example": example} | ({"grouped": grouped} if grouped else {})


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        ([shape("9,9", "2,6")], {"decimal": ","}),
        ([shape("-9,9", "-200,0"), shape("9,9", "2,6")], {"decimal": ","}),
        ([shape("9.9,9", "1.234,5"), shape("9,9", "2,6")], {"decimal": ",", "thousands": "."}),
        ([shape("9,9.9", "1,234.5"), shape("9,9", "1,234", grouped=10)], {"thousands": ","}),
        ([shape("9,9", "1,234", grouped=10)], {"thousands": ","}),
        ([shape("9,9", "1,234", grouped=9)], {"decimal": ","}),
        ([shape("9,9", "0,123", grouped=10)], {"decimal": ","}),
        ([shape("9.9.9", "1.234.567", grouped=10)], {"thousands": "."}),
        ([shape("9 9,9", "1 234,5")], {"decimal": ",", "thousands": " "}),
        ([shape("9'9.9", "1'234.5")], {"thousands": "'"}),
        ([shape("9'9", "1'234", grouped=10)], {"thousands": "'"}),
        ([shape("a", "NA", 3)], {"missing": ["NA"]}),
        ([shape("-", "-", 3), shape("a/a", "n/a", 2)], {"missing": ["-", "n/a"]}),
        ([shape("9,9", "2,6", 60), shape("a", "NA", 3)], {"decimal": ",", "missing": ["NA"]}),
    ],
)
def test_shapes_of_the_error_name_the_read_options(shapes: list[Json], options: Json) -> None:
    first = plan("mean of T", MOTORS)
    assert read(plan("mean of T", MOTORS, earlier_attempts=[failed(1, first, *shapes)])) == options


@pytest.mark.parametrize("example", ["rain", "12 mg"])
def test_column_of_words_is_refused_instead_of_called_missing(example: str) -> None:
    text = "a" if example.isalpha() else "9 a"
    first = plan("mean of T", MOTORS)
    refusal = ask("mean of T", MOTORS, earlier_attempts=[failed(1, first, shape(text, example, 100))])
    assert f"'{example}'" in refusal["cannot"]


def test_column_that_mostly_says_it_has_no_value_is_still_computed() -> None:
    first = plan("mean of T", MOTORS)
    found = plan("mean of T", MOTORS, earlier_attempts=[failed(1, first, shape("a", "NA", 90))])
    assert read(found) == {"missing": ["NA"]}


def test_missing_values_that_a_later_hypothesis_names_need_no_further_look() -> None:
    told = {"kind": "adjust_arguments", "tool": "table.query", "file": "motors.csv",
            "then": {"args": {"table": {"read": {"missing": [-99]}}}}}  # fmt: skip
    first = plan("mean of T", MOTORS)
    attempts = [unchecked(1, first, INSPECT), unchecked(2, first, told)]
    found = plan("mean of T", MOTORS, earlier_attempts=attempts)
    assert [one["tool"] for one in found["steps"]] == ["table.query"]
    assert read(found) == {"missing": [-99]}


def test_error_without_details_is_read_by_the_example_in_its_message() -> None:
    first = plan("mean of T", MOTORS)
    attempt = failed(1, first)
    attempt["failed_step"]["error"]["message"] = (
        "9 of 10 values of T are not numbers, for example '2,6'; set read.decimal"
    )
    assert read(plan("mean of T", MOTORS, earlier_attempts=[attempt])) == {"decimal": ","}


def test_error_of_one_file_changes_nothing_about_another() -> None:
    goal = "compare the mean revenue of sales-north.csv and sales-south.csv"
    first = plan(goal, NORTH, SOUTH)
    found = plan(goal, NORTH, SOUTH, earlier_attempts=[failed(1, first, COMMA, column="revenue")])
    assert [one["args"]["table"].get("read") for one in found["steps"][:2]] == [{"decimal": ","}, None]


def test_column_that_does_not_exist_is_replaced_by_the_nearest() -> None:
    first = plan("mean of T by maker", MOTORS)
    attempt = failed(1, first)
    attempt["failed_step"]["error"] = {
        "code": "unknown_column",
        "message": "",
        "details": {"column": "T", "near": ["T2"]},
    }
    found = query("mean of T by maker", MOTORS, earlier_attempts=[attempt])
    assert found["select"] == [{"fn": "mean", "column": "T2", "as": "mean"}]
    assert found["group_by"] == ["maker"]


def finding(code: str, **fields: Any) -> Json:
    return {"code": code, "message": f"because of {code}", "step": None, "field": None, "hint": None} | fields


def test_rejected_profile_is_left_out_with_what_refers_to_it() -> None:
    attempts = [unchecked(1, plan("mean of T", MOTORS), INSPECT)]
    rejected = plan("mean of T", MOTORS, earlier_attempts=attempts)
    findings = {"plan": rejected, "findings": [finding("tool_not_allowed", step="profile", field="/tool")]}
    found = plan("mean of T", MOTORS, earlier_attempts=attempts, findings=findings)
    assert [one["id"] for one in found["steps"]] == ["mean"]
    assert read(found) == {}


def test_rejected_argument_is_left_out() -> None:
    lesson = LESSON_COMMA | {"then": {"args": {"table": {"read": {"decimal": ",", "quirk": 1}}}}}
    rejected = plan("mean of T", MOTORS, lessons=[lesson])
    where = finding("bad_arguments", step="mean", field="/args/table/read/quirk")
    found = plan("mean of T", MOTORS, lessons=[lesson], findings={"plan": rejected, "findings": [where]})
    assert read(found) == {"decimal": ","}


def test_rejection_that_nothing_repairs_is_told_instead_of_repeated() -> None:
    rejected = plan("mean of T", MOTORS)
    findings = {"plan": rejected, "findings": [finding("tool_denied", step="mean", field="/tool")]}
    assert ask("mean of T", MOTORS, findings=findings)["cannot"].endswith("because of tool_denied")


def test_null_of_a_lesson_removes_an_argument() -> None:
    lesson = LESSON_COMMA | {"then": {"args": {"limit": None}}}
    assert "limit" not in query("mean of T", MOTORS, lessons=[lesson])
