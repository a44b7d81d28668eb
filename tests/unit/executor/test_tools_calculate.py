"""Arithmetic by a grammar of its own: agrees with Python where both speak, refuses everything else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_executor.tools.calculate import evaluate
from raa_executor.tools.errors import ToolError


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("2 ** 3 ** 2", 512),
        ("10 - 4 - 3", 3),
        ("7 % 4 / 2", 1.5),
        ("--3", 3),
        ("1.5e3 + .5", 1500.5),
        ("max(a, b) - min(a, b)", 3),
        ("round(10 / 3, 2)", 3.33),
        ("round(10.4)", 10),
        ("sqrt(abs(0 - 16))", 4),
        (" a_1*2 ", 4),
    ],
)
def test_expressions_have_their_usual_value(expression: str, expected: float):
    assert evaluate(expression, {"a": 2, "b": 5, "a_1": 2}) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1 2",
        "(1",
        "1)",
        "x",
        "__import__('os')",
        "a.real",
        "a[0]",
        "1 / 0",
        "0 ** -1",
        "sqrt(-1)",
        "(-8) ** 0.5",
        "9 ** 9 ** 9",
        "10.0 ** 400",
        "1e999",
        "round(1, 0.5)",
        "abs(1, 2)",
        "min()",
        "abs",
        "lambda: 1",
        "1 if 1 else 2",
        "'a' * 9",
        "nothing",
        "a = 1",
        "(" * 60 + "1" + ")" * 60,
        "9" * 400,
    ],
)
def test_everything_else_is_a_bad_expression(expression: str):
    with pytest.raises(ToolError) as raised:
        evaluate(expression, {"a": 2, "nothing": None})

    assert raised.value.code == "bad_expression"
    assert "at character" in raised.value.message


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(parts, st.sampled_from(["+", "-", "*", "/", "%"]), parts).map(" ".join)
    return st.one_of(binary, parts.map("({})".format), parts.map("-{}".format), parts.map("abs({})".format))


_expressions = st.recursive(st.sampled_from(["1", "2.5", "7", "a", "b"]), _joined, max_leaves=12)


@given(_expressions)
def test_value_equals_that_of_python(expression: str):
    values = {"a": 3, "b": -0.5}
    try:
        expected = eval(expression, {"__builtins__": {"abs": abs}}, values)
    except ZeroDivisionError:
        expected = None
    if expected is None:
        return
    assert math.isclose(evaluate(expression, values), expected, rel_tol=1e-12, abs_tol=1e-12)


@given(st.text(alphabet="0123456789.+-*/%() abesqrt,_x", max_size=40))
def test_no_text_makes_it_fail_in_another_way(expression: str):
    try:
        value = evaluate(expression, {"a": 1})
    except ToolError:
        return
    assert math.isfinite(value)
