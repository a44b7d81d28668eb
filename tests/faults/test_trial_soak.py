"""Soak: under a load that stays the same no process grows, neither in memory nor in open files."""

import asyncio
import time
from statistics import median
from typing import Final

import pytest

from tests.faults.footprint import open_files, rss_mb, slope_per_hour
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, meanwhile

pytestmark = pytest.mark.patient

SECONDS: Final = 1_800.0 if LONG else 30.0
WARM_UP: Final = 0.3  # of the time
PER_SECOND: Final = 5
EVERY_SECONDS: Final = 5.0 if LONG else 1.0
MOST_MB_PER_HOUR: Final = 20.0
MOST_FILES: Final = 8

Sample = tuple[float, dict[str, float], dict[str, int]]


async def sample(trial: Trial, samples: list[Sample]) -> None:
    """Look at all processes until cancelled."""
    begun = time.monotonic()
    pids = {name: trial.house.pid_of(name) for name in trial.house.processes}
    while True:
        memory = {name: rss_mb(pid) for name, pid in pids.items()}
        files = {name: open_files(pid) for name, pid in pids.items()}
        samples.append((time.monotonic() - begun, memory, files))
        await asyncio.sleep(EVERY_SECONDS)


async def steady(trial: Trial, samples: list[Sample]) -> int:
    """Put the same load on it for a while; gives how many tasks."""
    load, tasks = trial.load(), mixed(int(SECONDS * PER_SECOND), "s")
    async with meanwhile(asyncio.create_task(sample(trial, samples))):
        await load.trickle(tasks, PER_SECOND)
    await load.until_ended(seconds=180)
    return len(tasks)


def _more(counts: list[int]) -> float:
    """Compare the last fifth with the first: a burst opens connections for a minute, a leak keeps them."""
    fifth = max(1, len(counts) // 5)
    return median(counts[-fifth:]) - median(counts[:fifth])


def growth(samples: list[Sample]) -> dict[str, float]:
    """Give the steepest growth of any process, behind the warm-up."""
    warm = [one for one in samples if one[0] >= WARM_UP * SECONDS]
    at = [second for second, _, _ in warm]
    names = warm[0][1]
    slopes = {name: slope_per_hour(at, [memory[name] for _, memory, _ in warm]) for name in names}
    files = {name: _more([files[name] for _, _, files in warm]) for name in names}
    return {
        "seconds": SECONDS,
        "steepest_mb_per_hour": max(slopes.values()),
        "peak_rss_mb": max(max(memory.values()) for _, memory, _ in warm),
        "open_files": max(warm[-1][2].values()),
        "more_files": max(files.values()),
    }


def test_nothing_grows_under_a_load_that_stays_the_same(on_servers: Trial, report: list[Row]) -> None:
    samples = list[Sample]()
    tasks = asyncio.run(steady(on_servers, samples))
    figures = growth(samples)
    injected = f"{PER_SECOND} tasks a second for {SECONDS:g} s"
    row = asyncio.run(judged(on_servers, "soak", "kafka+mongo+redis", injected, **figures))
    report.append(row)
    check(row, tasks)
    assert row.figures["more_files"] <= MOST_FILES
    if LONG:  # in a minute allocators say more than leaks
        assert row.figures["steepest_mb_per_hour"] <= MOST_MB_PER_HOUR
