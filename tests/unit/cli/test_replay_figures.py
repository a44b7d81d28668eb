"""Intervals, gates and differences of a replay, apart from any sandbox."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_cli.replay.compare import Compared, Measure
from raa_cli.replay.decisions import ABSENT, Difference, differences
from raa_cli.replay.deltas import EXACT_UP_TO, mean_delta, success_delta
from raa_cli.replay.gates import GateUnreadableError, failures, read_gate, summarise

finite = st.floats(-1e6, 1e6, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(finite, min_size=2, max_size=40))
def test_an_interval_holds_the_mean_and_stays_within_what_was_seen(seen: list[float]):
    delta = mean_delta(seen)
    assert delta.low is not None
    assert delta.high is not None
    slack = 1e-9 * max(1.0, *map(abs, seen))
    assert min(seen) - slack <= delta.low <= delta.high <= max(seen) + slack
    assert delta.mean == pytest.approx(math.fsum(seen) / len(seen))


def test_the_interval_of_a_few_tasks_counts_every_resample():
    seen = [0.0, 0.0, 3.0]
    means = sorted(sum(drawn) / 3 for drawn in itertools.product(seen, repeat=3))
    delta = mean_delta(seen)
    assert (delta.low, delta.high) == (means[0], means[-1])
    assert means.count(means[-1]) == 1, "3.0 is drawn three times in one resample of 27, which is more than 2.5 %"
    assert "all resamples" in delta.method
    assert "4000 resamples" in mean_delta([1.0] * (EXACT_UP_TO + 1)).method


def test_the_same_tasks_have_the_same_interval():
    seen = [float(value) for value in range(20)]
    assert mean_delta(seen) == mean_delta(seen)


def test_one_task_has_no_interval_and_none_has_no_change():
    assert (mean_delta([5.0]).low, mean_delta([5.0]).mean) == (None, 5.0)
    assert (mean_delta([]).n, success_delta([], []).n) == (0, 0)


def test_no_change_in_few_tasks_proves_little_and_in_many_more():
    few, many = success_delta([True] * 5, [True] * 5), success_delta([True] * 500, [True] * 500)
    assert few.mean == many.mean == 0
    assert few.low is not None
    assert many.low is not None
    assert few.low < -0.4
    assert -0.02 < many.low < 0


def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson():
    # 10 of 10 got worse; with a quarter of 5 % on each side the lower bound solves p^10 = 0.0125
    delta = success_delta([True] * 10, [False] * 10)
    assert delta.high == pytest.approx(1 - 0.0125**0.1 - 0.0125**0.1, abs=1e-6)
    assert (delta.mean, delta.low) == (-1.0, -1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_change_of_success_lies_within_its_bounds(pairs: list[tuple[bool, bool]]):
    delta = success_delta([then for then, _ in pairs], [now for _, now in pairs])
    assert delta.low is not None
    assert delta.high is not None
    assert -1 <= delta.low <= delta.mean <= delta.high <= 1


@pytest.mark.parametrize("text", ["", "fast", "success", "success>0", "success=0", "speed>=1", "cost<=", "cost<=1e9x"])
def test_a_gate_that_cannot_be_read_says_how_to_write_one(text: str):
    with pytest.raises(GateUnreadableError, match=r"write a metric \(success, cost, latency, changed\)"):
        read_gate(text)


def compared(then: bool, now: bool, cost: int = 0) -> Compared:
    return Compared(
        "t",
        recorded=Measure(then, "x", 1, 0, 10),
        replayed=Measure(now, "x", 1, cost, 15),
        differences=[] if then == now else [Difference("end/outcome", 1, 2)],
    )


def test_gates_are_held_against_the_mean_change_per_task():
    tasks = [compared(True, True, 100), compared(True, False), compared(False, True)]
    summary = summarise(tasks)
    assert (summary.value_of("success"), summary.changed) == (0, 2)
    assert failures(summary, [read_gate("success>=0"), read_gate("cost<=34"), read_gate("latency <= 5")], 1) == []
    assert failures(summary, [read_gate("changed<=0.5")], 1) == ["changed<=0.5 does not hold: it is 0.666667"]
    assert failures(summary, [read_gate("cost<=33")], 1) == ["cost<=33 does not hold: it is 33.3333"]


def test_what_was_not_played_to_its_end_counts_against_coverage_and_no_gate():
    summary = summarise([compared(True, True), Compared("u", skipped="it runs")])
    assert summary.coverage == 0.5
    assert failures(summary, [read_gate("success>=0")], 0.5) == []
    assert failures(summary, [read_gate("success>=0")], 1) == ["coverage is 50%, below --min-coverage 100%"]
    assert failures(summarise([]), [read_gate("success>=1")], 0) == []


@given(json_values)
def test_nothing_differs_from_itself(value: Any):
    assert differences(value, value) == []


@given(json_values, json_values)
def test_what_differs_is_found_and_found_from_both_sides(one: Any, other: Any):
    there, back = differences({"a": one}, {"a": other}), differences({"a": other}, {"a": one})
    assert bool(there) == bool(back)
    assert {item.path for item in there} == {item.path for item in back}
    if one != other:
        assert there


def test_a_difference_is_named_as_deep_as_it_can_be():
    found = differences({"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, 3]}, "d": True})
    assert found == [Difference("a/b/1", 2, 3), Difference("c", 1, ABSENT), Difference("d", ABSENT, True)]
    assert differences({"a": [1]}, {"a": [1, 2]}) == [Difference("a", [1], [1, 2])]
    assert differences(1, True) == [Difference("", 1, True)]
