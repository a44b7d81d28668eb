from pathlib import Path

import pytest

from raa_schemas.artifact import Artifact
from raa_schemas.check import CheckSyntaxError, evaluate, failed_path, parse_check
from raa_schemas.reflection import CheckReport

REPORT = Artifact(name="report.md", sha256="a" * 64, size=12)


def check(text: str, result: object = None, outputs: dict[str, object] | None = None) -> CheckReport:
    return evaluate(parse_check(text), result, outputs or {}, [REPORT])


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("result >= 0", 0),
        ("result >= 0 and result < 10", 2.5),
        ("not result == 3", 4),
        ("0 <= result", 1),
        ("result == 1.0", 1),
        ("result != true", 1),
        ("abs(result - 2.1527) < 0.001", 2.15271),
        ("round(result, 1) == 2.2", 2.16),
        ("2 + 3 * 4 == 14 and (2 + 3) * 4 == 20 and 7 - 2 - 1 == 4", None),
        ("-result > 2", -3),
        ("result in [1, 2, 3]", 2),
        ('"an" in result', "banana"),
        ('"mean" in result', {"mean": 3}),
        ("len(result) == 2", [1, 2]),
        ("min(result) > 0 and max(1, 5, 3) == 5", [3, 1]),
        ("result.rows[1].mean > 1", {"rows": [{}, {"mean": 2}]}),
        ('result["a b"][0] == "x"', {"a b": ["x"]}),
        ("exists(result.a) and not exists(result.b)", {"a": None}),
        ("not exists(result.b) or result.b > 1", {}),
        ("result == null", None),
        ("result == [1, [2]]", [1, [2]]),
        ('matches(result, "^[A-Z]{2}-\\d+$")', "AB-17"),
        ('artifacts["report.md"].size > 10 and len(artifacts) == 1', None),
        ('"report.md" in artifacts', None),
        ("result > 1 or result < -1", -2),
    ],
)
def test_check_holds(text: str, result: object) -> None:
    report = check(text, result)
    assert report.value, report.reason
    assert report.failed_atom is None


@pytest.mark.parametrize(
    ("text", "result", "reason"),
    [
        ("result.mean > 0", 3, "there is no result.mean"),
        ("result > 0", "3", "a text and a number cannot be compared"),
        ("result > 0", True, "true or false has no order"),
        ("result > 0", None, "null has no order"),
        ("result", 3, "a number, not true or false"),
        ("1 / result > 0", 0, "division by zero"),
        ("len(result) > 0", 3, "len takes text, a list or an object"),
        ("min(result) > 0", [], "is empty"),
        ("min(result) > 0", ["a"], "not a number"),
        ("abs(result) > 0", float("nan"), "not a finite number"),
        ("round(1.5, result) > 0", 0.5, "whole digits"),
        ("3 in result", "3", "cannot be in a text"),
        ('matches(result, "a")', 3, "matches takes text"),
        ('matches(result, "a")', "a" * 70_000, "takes up to 65536"),
        ("outputs.other.x == 1", None, "there is no outputs.other.x"),
        ("result[2] == 1", [1, 2], "there is no result[2]"),
    ],
)
def test_missing_paths_and_wrong_types_make_the_check_false_and_say_why(text: str, result: object, reason: str) -> None:
    report = check(text, result)
    assert not report.value
    assert reason in (report.reason or "")
    assert report.failed_atom is None


@pytest.mark.parametrize(
    ("text", "result", "atom"),
    [
        ("result >= 0", -34.2, {"path": "result", "op": ">=", "bound": 0, "actual": -34.2}),
        ("0 <= result", -34.2, {"path": "result", "op": ">=", "bound": 0, "actual": -34.2}),
        ("result > 0 and result < 5", 9, {"path": "result", "op": "<", "bound": 5, "actual": 9}),
        ("result < 0 or result > 10", 5, {"path": "result", "op": "<", "bound": 0, "actual": 5}),
        ("not result < 0", -1, {"path": "result", "op": ">=", "bound": 0, "actual": -1}),
        ("not (result < 0 or result > 9)", 10, {"path": "result", "op": "<=", "bound": 9, "actual": 10}),
        ("result.a == 3", {"a": "x" * 300}, {"path": "result.a", "op": "==", "bound": 3, "actual": "x" * 199 + "…"}),
        ("result.ok", {"ok": False}, {"path": "result.ok", "op": "==", "bound": True, "actual": False}),
        ("len(result) > 3", [1], {"path": None, "op": ">", "bound": 3, "actual": 1}),
        ("result in [1, 2]", 3, {"path": "result", "op": "in", "bound": [1, 2], "actual": 3}),
    ],
)
def test_report_names_the_comparison_that_failed(text: str, result: object, atom: dict[str, object]) -> None:
    assert check(text, result).failed_atom == atom


def test_failed_path_leads_back_to_the_place() -> None:
    path = failed_path(check('result["a b"][1] > 3', {"a b": [1, 2]}))
    assert path is not None
    assert (path.root, path.parts) == ("result", ("a b", 1))
    assert failed_path(check("len(result) > 3", [])) is None


@pytest.mark.parametrize(
    ("text", "says", "position"),
    [
        ("", "the check is empty", 0),
        ("result >", "a value is missing", 8),
        ("result = 0", "compare with ==", 7),
        ("result > 0 && result < 3", "write and", 11),
        ("mean > 0", "'mean' is not known", 0),
        ("__import__('os')", "'__import__' is not known", 0),
        ("result > 0)", "nothing may follow", 10),
        ("(result > 0", "not closed; add )", 11),
        ("result == 'a", "not closed", 10),
        ("0 < result < 3", "cannot be chained", 11),
        ("outputs > 1", "needs the id of a step", 8),
        ("outputs.my-step > 1", "'step' is not known", 11),
        ("exists(3)", "exists takes a path", 0),
        ("len()", "takes 1 arguments", 0),
        ("len > 2", "is a function", 4),
        ("matches(result, result)", "pattern written as text", 0),
        ('matches(result, "(a")', "group is not closed", 0),
        ("result[x] > 1", "a place in a list", 7),
        ("result. > 1", "a name belongs after the dot", 8),
        ("result > 1e999", "too large", 9),
        ("(" * 21 + "1" + ")" * 21, "deeper than 20", 21),
        ("result > " + "1" * 500, "at most 500", 500),
    ],
)
def test_syntax_error_says_where_and_what_to_write(text: str, says: str, position: int) -> None:
    with pytest.raises(CheckSyntaxError, match=r"at character \d+") as caught:
        parse_check(text)
    assert says in str(caught.value)
    assert caught.value.position == position


def test_check_names_the_steps_it_looks_at() -> None:
    assert parse_check('outputs.a.x > 1 and len(outputs["b-1"]) > abs(result)').steps() == {"a", "b-1"}


def test_twenty_levels_are_allowed() -> None:
    assert check("(" * 20 + "true" + ")" * 20).value


def test_every_example_of_the_documentation_parses() -> None:
    page = (Path(__file__).parents[3] / "docs" / "checks.md").read_text(encoding="utf-8")
    examples = page.split("```")[1].strip().splitlines()
    assert len(examples) == 5
    for example in examples:
        parse_check(example)
