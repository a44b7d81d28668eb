from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_schemas.family import family_of
from raa_schemas.merge import difference, merge_patch
from raa_schemas.plan import Plan, Step

keys = st.sampled_from("abcd")
leaves = st.booleans() | st.integers(0, 9) | st.text(max_size=3)
objects: st.SearchStrategy[Any] = st.dictionaries(
    keys,
    st.recursive(
        leaves | st.lists(st.integers(0, 9), max_size=3),
        lambda inner: st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"missing": ["NA"]}, {"missing": ["NA", -200]}, {"missing": ["NA", -200]}),
        ({"missing": {"ref": "p", "path": "/x"}}, {"missing": [-200]}, {"missing": [-200]}),
        ({"missing": {"a": 1}}, {"missing": {"ref": "p", "path": "/x"}}, {"missing": {"ref": "p", "path": "/x"}}),
        ({"a": 1}, {"a": {"b": {"c": None, "d": 1}}}, {"a": {"b": {"d": 1}}}),
    ],
)
def test_patch_merges_objects_unites_lists_and_replaces_the_rest(target: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(target, patch) == merged


@given(objects, objects)
def test_patching_twice_is_patching_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(objects, objects)
def test_difference_undoes_what_a_patch_did(target: Any, patch: Any) -> None:
    changed = merge_patch(target, patch)
    assert merge_patch(target, difference(target, changed)) == changed


@given(objects)
def test_equal_objects_do_not_differ(value: Any) -> None:
    assert difference(value, value) == {}


def test_family_tells_aggregates_from_other_work() -> None:
    query = Step(id="q", tool="table.query", args={"select": [{"fn": "mean", "column": "x", "as": "mean"}]})
    assert family_of(Plan(steps=[query, Step(id="w", tool="file.write")])) == "table.aggregate"
    plain = Step(id="q", tool="table.query", args={"select": ["x"]})
    assert family_of(Plan(steps=[plain, Step(id="w", tool="file.write")])) == "file.write+table.query"
