"""Plans: how references are found, bound and escaped, and what a plan's hash tells apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.plan import (
    MAX_ARGUMENT_DEPTH,
    Plan,
    Reference,
    Step,
    UnboundReferenceError,
    as_reference,
    bind,
    dependencies,
    references,
    resolve_pointer,
)

OUTPUTS = {"profile": {"columns": [{"name": "a", "suspects": [-1]}], "a/b": {"~": "tilde"}, "": "empty key"}}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5).filter(lambda key: key not in {"ref", "literal"}), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ({"ref": "a", "path": "/rows/0"}, Reference("a", "/rows/0")),
        ({"ref": "a"}, Reference("a", "")),
        ({"ref": "a", "path": "", "more": 1}, None),
        ({"path": "/x"}, None),
        ({"ref": 1}, None),
        ({"ref": "a", "path": None}, None),
        ("a", None),
        ([{"ref": "a"}], None),
    ],
)
def test_a_reference_is_exactly_a_step_and_a_pointer(value: Any, reference: Reference | None) -> None:
    assert as_reference(value) == reference


def test_references_are_found_at_any_depth_but_not_in_literals() -> None:
    args = {"a": [{"b": {"ref": "one", "path": "/x"}}], "c": {"literal": {"ref": "two"}}, "d": {"ref": "three"}}
    assert list(references(args)) == [Reference("one", "/x"), Reference("three", "")]


def test_an_argument_nested_too_deeply_is_refused_with_advice() -> None:
    value: Any = {"ref": "a"}
    for _ in range(MAX_ARGUMENT_DEPTH):
        value = [value]
    assert list(references(value)) == [Reference("a", "")]
    with pytest.raises(ValueError, match="pass it as a file"):
        list(references([value]))


def test_steps_wait_for_those_they_reference_and_those_they_name() -> None:
    step = Step(id="c", tool="t", args={"x": {"ref": "a", "path": "/y"}}, after=["b", "a"])
    assert dependencies(step) == {"a", "b"}


@pytest.mark.parametrize(
    ("argument", "bound"),
    [
        ({"ref": "profile", "path": "/columns/0/suspects"}, [-1]),
        ({"ref": "profile", "path": "/a~1b/~0"}, "tilde"),
        ({"ref": "profile", "path": "/"}, "empty key"),
        ({"ref": "profile"}, OUTPUTS["profile"]),
        ({"x": [{"ref": "profile", "path": "/columns/0/name"}, 2]}, {"x": ["a", 2]}),
        ({"literal": {"ref": "profile"}}, {"ref": "profile"}),
        ({"literal": {"literal": 1}}, {"literal": 1}),
        ({"literal": 1, "other": 2}, {"literal": 1, "other": 2}),
    ],
)
def test_binding_puts_outputs_in_the_place_of_references(argument: Any, bound: Any) -> None:
    assert bind(argument, OUTPUTS) == bound


@given(plain)
def test_an_argument_without_references_is_bound_to_itself(value: Any) -> None:
    assert list(references(value)) == []
    assert bind(value, {}) == value


@given(plain)
def test_a_literal_is_bound_to_what_it_holds_whatever_that_is(value: Any) -> None:
    assert bind({"literal": value}, {}) == value
    assert bind({"literal": {"ref": "nobody", "path": value}}, {}) == {"ref": "nobody", "path": value}


@given(plain)
def test_the_empty_pointer_points_at_the_whole_document(document: Any) -> None:
    assert resolve_pointer(document, "") == document


@given(st.dictionaries(st.text(max_size=4), plain, min_size=1, max_size=3))
def test_every_member_can_be_pointed_at_whatever_its_name(document: dict[str, Any]) -> None:
    for name, value in document.items():
        assert resolve_pointer(document, "/" + name.replace("~", "~0").replace("/", "~1")) == value


@pytest.mark.parametrize(
    ("pointer", "advice"),
    [
        ("/rows", "there is no 'rows'"),
        ("/columns/1", "there is no '1'"),
        ("/columns/-1", "there is no '-1'"),
        ("/columns/00", "there is no '00'"),
        ("/columns/²", "there is no '²'"),
        ("/columns/-", "there is no '-'"),
        ("/columns/" + "9" * 5_000, "there is no"),
        ("/columns/0/name/0", "there is no '0'"),
        ("columns/0", "begin it with a slash"),
    ],
)
def test_a_pointer_at_nothing_names_the_part_that_is_missing(pointer: str, advice: str) -> None:
    with pytest.raises(UnboundReferenceError, match=advice):
        resolve_pointer(OUTPUTS["profile"], pointer)


def test_a_reference_to_a_step_without_output_names_the_step() -> None:
    with pytest.raises(UnboundReferenceError, match="step 'mean' has no output"):
        bind({"ref": "mean"}, OUTPUTS)


def _plan(**changes: Any) -> Plan:
    return Plan.model_validate(
        {"steps": [{"id": "a", "tool": "t", "args": {"x": 1}}], "result": {"ref": "a"}} | changes
    )


def test_plans_that_do_the_same_have_the_same_hash() -> None:
    assert _plan().content_hash() == _plan(version=4, origin="replan", lessons=["les_1"]).content_hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"result": None},
        {"steps": [{"id": "a", "tool": "t", "args": {"x": 2}}]},
        {"steps": [{"id": "a", "tool": "u", "args": {"x": 1}}]},
        {"steps": [{"id": "b", "tool": "t", "args": {"x": 1}}]},
        {"steps": [{"id": "a", "tool": "t", "args": {"x": 1}, "after": ["z"]}]},
    ],
)
def test_plans_that_do_something_else_have_another_hash(changes: dict[str, Any]) -> None:
    assert _plan(**changes).content_hash() != _plan().content_hash()


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_a_plan_with_what_is_no_json_number_has_no_hash(text: str) -> None:
    plan = Plan.model_validate_json(f'{{"steps": [{{"id": "a", "tool": "t", "args": {{"x": [{text}]}}}}]}}')
    with pytest.raises(ValueError, match="not JSON compliant"):
        plan.content_hash()


@given(plain)
def test_the_canonical_form_does_not_depend_on_the_order_of_members(value: Any) -> None:
    assert canonical_bytes({"a": value, "b": 1}) == canonical_bytes({"b": 1, "a": value})
    assert digest({"a": value}) == digest({"a": value})


def test_the_canonical_form_is_the_same_in_every_release() -> None:
    assert canonical_bytes({"ü": [1, 1.5, True, None], "a": "é"}) == '{"a":"é","ü":[1,1.5,true,null]}'.encode()
