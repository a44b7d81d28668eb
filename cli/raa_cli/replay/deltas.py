"""Differences between pairs of measurements, each with an interval that says how much so few tasks can tell. Pure."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

LEVEL: Final = 0.95
EXACT_UP_TO: Final = 6
RESAMPLES: Final = 4_000
_SEED: Final = 20_240_501
_HALVINGS: Final = 60


@dataclass(frozen=True)
class Delta:
    """A mean difference per task, replayed minus recorded; `low` and `high` are absent where one task says nothing."""

    n: int
    mean: float
    low: float | None
    high: float | None
    method: str


def mean_delta(differences: Sequence[float]) -> Delta:
    """Give the mean of paired differences with its bootstrap interval; up to 6 pairs all resamples are counted."""
    n = len(differences)
    if n == 0:
        return Delta(0, 0.0, None, None, "nothing to compare")
    mean = math.fsum(differences) / n
    if n == 1:
        return Delta(1, mean, None, None, "one task has no interval")
    if n <= EXACT_UP_TO:
        means = sorted(math.fsum(drawn) / n for drawn in itertools.product(differences, repeat=n))
        method = "paired bootstrap, all resamples"
    else:
        chance = random.Random(_SEED)  # noqa: S311  # the same tasks must give the same interval
        means = sorted(math.fsum(chance.choices(differences, k=n)) / n for _ in range(RESAMPLES))
        method = f"paired bootstrap, {RESAMPLES} resamples"
    tail = (1 - LEVEL) / 2
    return Delta(n, mean, _quantile(means, tail), _quantile(means, 1 - tail), method)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def success_delta(before: Sequence[bool], after: Sequence[bool]) -> Delta:
    """Give the change of the share that succeeds, with exact bounds on how often it gets better and worse.

    The bounds are Clopper and Pearson's, half of the error each: they hold for any number of tasks.
    """
    n = len(before)
    if n == 0:
        return Delta(0, 0.0, None, None, "nothing to compare")
    better = sum(now and not then for then, now in zip(before, after, strict=True))
    worse = sum(then and not now for then, now in zip(before, after, strict=True))
    few, many = _shares(better, n), _shares(worse, n)
    return Delta(n, (better - worse) / n, max(-1.0, few[0] - many[1]), min(1.0, few[1] - many[0]), "exact binomial")


def _shares(hits: int, n: int) -> tuple[float, float]:
    """Bound a share from both sides; each bound errs with a quarter of what the interval may err."""
    tail = (1 - LEVEL) / 4
    low = 0.0 if hits == 0 else _where(lambda share: 1 - _at_most(hits - 1, n, share) >= tail)
    high = 1.0 if hits == n else _where(lambda share: _at_most(hits, n, share) <= tail)
    return low, high


def _at_most(hits: int, n: int, share: float) -> float:
    return math.fsum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits + 1))


def _where(holds: Callable[[float], bool]) -> float:
    """Find where a condition begins to hold between 0 and 1, by halving."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
