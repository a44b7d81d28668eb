"""What the distinct values of a column and their counts say: quantiles, most frequent values, suspects. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

Histogram = Sequence[tuple[float, int]]
"""Distinct values in ascending order, each with how often it occurs."""

SUSPECT_COUNT = 5
SUSPECT_MULTIPLE = 2
SUSPECT_GAPS = 10
_EXACT = 2**53


def suspects(histogram: Histogram) -> list[float]:
    """Return the minimum and maximum, where they look like a code for `missing`: repeated and isolated.

    That is: at least 5 times, at least twice the median multiplicity, and at least 10 median gaps away from the next
    distinct value. In data with many true zeros far from the rest it would name the zero: a suspect is a question.
    """
    if len(histogram) < 2:
        return []
    values = [value for value, _ in histogram]
    gaps = [above - below for below, above in pairwise(values)]
    often = max(SUSPECT_COUNT, SUSPECT_MULTIPLE * median(count for _, count in histogram))
    far = SUSPECT_GAPS * median(gaps)
    ends = ((histogram[0], gaps[0]), (histogram[-1], gaps[-1]))
    return [value for (value, count), gap in ends if count >= often and gap >= far]


def quantiles(histogram: Histogram, shares: Sequence[float]) -> dict[str, float]:
    """Return the values below which `shares` of all cells lie, interpolated between neighbours."""
    total = sum(count for _, count in histogram)
    return {f"{share:g}": _value_at(histogram, share * (total - 1)) for share in shares} if total else {}


def most_frequent(histogram: Sequence[tuple[float | str, int]], limit: int) -> list[tuple[float | str, int]]:
    """Return the `limit` most frequent values; among equals the order of the histogram decides."""
    return sorted(histogram, key=lambda entry: -entry[1])[:limit]


def whole(value: Any) -> Any:
    """Return a whole number as such: a suspect is -999 in plans and lessons, not -999.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value


def _value_at(histogram: Histogram, rank: float) -> float:
    low = int(rank)
    below, above = _nth(histogram, low), _nth(histogram, low + 1)
    return below + (above - below) * (rank - low)


def _nth(histogram: Histogram, rank: int) -> float:
    """Return the value at a rank counted from 0, the last one beyond the end."""
    for value, count in histogram:
        rank -= count
        if rank < 0:
            return value
    return histogram[-1][0]
