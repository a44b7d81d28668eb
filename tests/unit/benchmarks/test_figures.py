"""Medians, paired ratios and exact percentiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import is_valid, percentile, percentiles, ratios, spread


def test_a_spread_names_the_middle_and_both_ends():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0, "rounds": 3}


def test_ratios_pair_runs_of_the_same_round_and_leave_out_rounds_one_side_lost():
    assert ratios({0: 1.0, 1: 2.0, 3: 4.0}, {0: 10.0, 1: 10.0, 2: 10.0}) == [10.0, 5.0]


def test_percentiles_of_a_hundred_are_themselves():
    values = [float(number) for number in range(1, 101)]
    assert percentiles(values) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0, "count": 100}


def test_there_is_no_percentile_of_nothing():
    with pytest.raises(ValueError, match="of nothing"):
        percentile([], 0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_the_smallest_value_that_enough_others_do_not_exceed(values: list[float], share: float):
    ordered = sorted(values)
    found = percentile(ordered, share)
    at_most = sum(value <= found for value in ordered)
    below = sum(value < found for value in ordered)
    assert at_most >= share * len(ordered) - 1e-6
    assert below < share * len(ordered)


@pytest.mark.parametrize("wrong", ["lost", "misordered", "incomplete"])
def test_a_run_that_loses_or_reorders_does_not_count(wrong: str):
    clean = {"lost": 0, "misordered": 0, "incomplete": 0, "duplicates": 3}
    assert is_valid(clean)
    assert not is_valid(clean | {wrong: 1})
