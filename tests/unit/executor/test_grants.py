"""A grant opens exactly one step: whatever differs by a byte starts nothing."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_executor.domain.grants import Claim, Verdict, fits, judge
from raa_executor.domain.moves import Scene
from raa_schemas.canonical import digest
from raa_schemas.plan import Grant, Step, bind
from raa_schemas.step import Risk
from tests.unit.executor.plans import NOW
from tests.unit.executor.steps import ARGS, DEFINITION, grant, ring, signed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({"ref": "other", "path": "/v"}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def verdict(
    own: Grant | None,
    *,
    risk: Risk = "read",
    args: dict[str, Any] | None = None,
    args_hash: str | None = None,
    definition: Step = DEFINITION,
    **scene: Any,
) -> Verdict:
    bound = ARGS if args is None else args
    place: dict[str, Any] = {"deployment": "", "tenant": "default", "task_id": "t1"}
    place |= {"now": NOW, "tools": {}, "keys": ring("k1")}
    claim = Claim(scene.pop("plan_version", 1), definition, bound, args_hash or digest(bound), risk)
    return judge(own, claim, Scene(**(place | scene)))


@pytest.mark.parametrize("covers", ["template", "bound"])
def test_a_grant_for_exactly_this_step_is_valid(covers: str):
    assert verdict(grant(covers)) == "valid"


@pytest.mark.parametrize(
    "change",
    [
        {"deployment": "other"},
        {"tenant": "other"},
        {"task_id": "t2"},
        {"plan_version": 2},
        {"args": {"x": 7}},
        {"args": ARGS | {"mode": "exacT"}},
        {"args": ARGS | {"n": [1, 2.5, 3]}},
        {"args": ARGS | {"more": 1}},
        {"args": ARGS | {"n": [True, 2.5]}},
        {"args_hash": digest("something else")},
        {"definition": DEFINITION.model_copy(update={"id": "other"})},
        {"definition": DEFINITION.model_copy(update={"tool": "other"})},
        {"definition": DEFINITION.model_copy(update={"args": {"x": {"ref": "other", "path": "/w"}}})},
    ],
)
def test_a_grant_for_another_place_step_or_template_is_forged(change: dict[str, Any]):
    assert verdict(grant(), **change) == "forged"


@pytest.mark.parametrize(
    "changed",
    [
        {"step": "other"},
        {"tool": "other"},
        {"args_hash": digest(1)},
        {"covers": "bound"},
        {"policy_version": "q"},
        {"expires_at": NOW + timedelta(days=9)},
        {"key_id": "k2"},
        {"signature": ""},
        {"signature": "not base64"},
    ],
)
def test_a_grant_whose_content_was_changed_after_signing_is_forged(changed: dict[str, Any]):
    assert verdict(grant().model_copy(update=changed), keys=ring("k1", "k2")) == "forged"


@given(place=st.integers(0, 63), bit=st.integers(0, 7))
def test_any_changed_bit_of_the_signature_is_forged(place: int, bit: int):
    own = grant()
    raw = bytearray(base64.b64decode(own.signature))
    raw[place] ^= 1 << bit
    assert verdict(own.model_copy(update={"signature": base64.b64encode(bytes(raw)).decode()})) == "forged"


def test_bound_arguments_that_a_person_did_not_see_are_forged():
    assert verdict(grant("bound"), args=ARGS | {"x": 8}) == "forged"


def test_no_grant_an_expired_one_and_one_of_an_unknown_key_mean_ask():
    assert verdict(None) == "absent"
    assert verdict(grant(expires_at=NOW)) == "expired"
    assert verdict(grant(key_id="k9")) == "unknown_key"


def test_a_template_is_not_enough_for_an_external_tool_but_bound_arguments_are():
    assert verdict(grant(), risk="external") == "external"
    assert verdict(grant("bound"), risk="external") == "valid"


def test_a_key_ring_that_was_not_refreshed_for_long_believes_nothing():
    clock = [0.0]
    keys = ring("k1")
    keys._monotonic = lambda: clock[0]
    keys._fetched = 0.0
    assert verdict(grant(), keys=keys) == "valid"
    clock[0] = 3600.0
    assert verdict(grant(), keys=keys) == "unknown_key"


def test_a_grant_signed_for_another_deployment_is_forged_even_if_the_rest_agrees():
    assert verdict(signed(grant(), deployment="sandbox")) == "forged"


@given(template=JSON, value=JSON)
def test_arguments_fit_the_template_they_were_bound_from(template: Any, value: Any):
    assert fits(template, bind(template, {"other": {"v": value}}))
