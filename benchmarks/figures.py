"""Numbers of a benchmark: medians over rounds, ratios of pairs that ran in the same round, exact percentiles."""

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import median
from typing import Any


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Sum up the rounds: median, lowest, highest."""
    return {
        "median": round(median(values), digits),
        "low": round(min(values), digits),
        "high": round(max(values), digits),
        "rounds": len(values),
    }


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Divide theirs by ours, round by round, where both have a valid run."""
    return [theirs[turn] / ours[turn] for turn in sorted(ours.keys() & theirs.keys()) if ours[turn]]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed (nearest rank, exact).

    `ordered` ascends; raises ValueError when it is empty.
    """
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    rank = ceil(round(len(ordered) * share, 6))
    return ordered[max(0, min(len(ordered), rank) - 1)]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Give the usual ones, and the worst."""
    ordered = sorted(values)
    named = {f"p{round(share * 100)}": round(percentile(ordered, share), 2) for share in (0.5, 0.95, 0.99)}
    return named | {"max": round(ordered[-1], 2), "count": len(ordered)}


def is_valid(report: Mapping[str, Any]) -> bool:
    """Say whether a run counts: nothing lost, nothing out of order, no stage left out. Duplicates are allowed."""
    return not any(report[name] for name in ("lost", "misordered", "incomplete"))
