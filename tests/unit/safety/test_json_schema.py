"""The structural check of arguments, against the reference implementation and by examples."""

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from pydantic import BaseModel, ConfigDict, Field

from raa_safety.domain.json_schema import check_argument, check_bound


class Filter(BaseModel):
    model_config = ConfigDict(extra="forbid")
    column: str = Field(min_length=1, max_length=5)
    op: Literal["==", "<", 3]
    value: str | int | None = None


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")
    value: Annotated[float, Field(gt=0, le=10)] | None = None
    children: "list[Tree] | dict[str, Tree]" = Field(default_factory=list, max_length=3)


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")
    file: str
    where: list[Filter] = []
    limit: Annotated[int, Field(ge=1, le=1000, multiple_of=5)] = 5
    pair: tuple[int, bool] | None = None
    tree: Tree | None = None
    by: dict[str, bool | list[int]] = {}


SCHEMA = Query.model_json_schema()
SCALARS = st.none() | st.booleans() | st.integers(-5, 1200) | st.floats(-2, 12) | st.text("ab<=", max_size=7)
KEYS = st.sampled_from(["file", "where", "limit", "pair", "tree", "by", "column", "op", "value", "children", "other"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))
FILTERS = st.fixed_dictionaries(
    {}, optional={"column": SCALARS, "op": st.sampled_from(["==", "<", 3, "in"]), "value": SCALARS, "other": SCALARS}
)
TREES = st.recursive(
    st.fixed_dictionaries({}, optional={"value": SCALARS}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={"value": SCALARS, "children": st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)},
    ),
)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "file": SCALARS,
        "where": st.lists(FILTERS | VALUES, max_size=3),
        "limit": SCALARS,
        "tree": TREES | SCALARS,
        "pair": st.tuples(st.integers(), st.booleans()).map(list) | VALUES,
        "by": st.dictionaries(KEYS, VALUES, max_size=3),
        "other": SCALARS,
    },
)


@given(QUERIES | VALUES)
def test_bound_arguments_are_judged_as_the_reference_implementation_judges_them(value: Any):
    assert (check_bound(SCHEMA, value) == []) == Draft202012Validator(SCHEMA).is_valid(value)


@given(QUERIES)
def test_every_problem_points_at_a_place_that_exists_in_the_value(value: Any):
    for problem in check_bound(SCHEMA, value):
        place: Any = value
        for part in problem.at.split("/")[1:]:
            place = place[part] if isinstance(place, dict) else place[int(part)]


@given(QUERIES)
def test_a_reference_in_place_of_a_value_never_adds_a_problem(value: dict[str, Any]):
    holes = {name: {"ref": "earlier", "path": "/x"} for name in value}
    before = {problem.at.split("/")[1] for problem in check_argument(SCHEMA, value) if problem.at}
    after = {problem.at.split("/")[1] for problem in check_argument(SCHEMA, holes) if problem.at}
    assert after <= before & {"other"}


@given(QUERIES)
def test_an_escaped_literal_is_judged_as_the_value_it_holds(value: dict[str, Any]):
    escaped = {"literal": value}
    assert check_argument(SCHEMA, escaped) == check_bound(SCHEMA, value)


def test_what_looks_like_a_reference_is_a_plain_object_once_it_is_bound():
    schema = {"type": "object", "properties": {"file": {"type": "string"}}}
    args = {"file": {"ref": "a", "path": "/b"}}
    assert check_argument(schema, args) == []
    assert [problem.at for problem in check_bound(schema, args)] == ["/file"]


@pytest.mark.parametrize(
    ("args", "at", "hint"),
    [
        ({"file": "a", "limt": 5}, "/limt", "did you mean 'limit'?"),
        ({"file": "a", "limit": 1005}, "/limit", "give a number ≥ 1 and ≤ 1000"),
        ({"file": "a", "limit": "5"}, "/limit", "give integer"),
        ({"file": "a", "where": [{"column": "x", "op": "like"}]}, "/where/0/op", "use one of '==', '<', 3"),
        ({"limit": 5}, "", "add 'file': string"),
    ],
)
def test_a_mistake_names_its_place_and_its_repair(args: dict[str, Any], at: str, hint: str):
    (problem,) = check_argument(SCHEMA, args)
    assert (problem.at, problem.hint) == (at, hint)


def test_a_nested_mistake_in_an_optional_object_is_reported_inside_it():
    (problem,) = check_argument(SCHEMA, {"file": "a", "tree": {"value": -1}})
    assert problem.at.startswith("/tree")


def test_a_schema_that_refers_to_itself_for_ever_ends():
    assert check_argument({"$ref": "#"}, {"a": [1]}) == []
    assert check_argument({"$ref": "#"}, 5) == []


def test_ambiguous_nested_unions_take_polynomial_time():
    schema: dict[str, Any] = {"anyOf": [{"type": "array", "items": {"$ref": "#"}}] * 3 + [{"type": "integer"}]}
    value: Any = "wrong at the bottom"
    for _ in range(30):
        value = [value]
    assert check_argument(schema, value) != []


def test_long_values_are_cut_in_messages():
    (problem,) = check_argument({"type": "integer"}, "x" * 10_000)
    assert len(problem.message) < 120
