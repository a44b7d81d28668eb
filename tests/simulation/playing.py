"""Plays seeds, here or in several processes, which cannot import a `__main__`."""

import time
from collections.abc import Iterable
from contextlib import nullcontext
from multiprocessing import get_context

from tests.simulation.family import Family
from tests.simulation.mutations import broken
from tests.simulation.scenario import Verdict, simulate
from tests.simulation.six import Six

Job = tuple[int, bool, str | None, bool]


def results(jobs: list[Job], processes: int) -> Iterable[tuple[Verdict, float]]:
    """Play the seeds, in their order."""
    if processes == 1:
        yield from map(play, jobs)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(play, jobs, chunksize=20)


def play(job: Job) -> tuple[Verdict, float]:
    """Play one seed; also in another process."""
    seed, six, mutation, trace = job
    begun = time.process_time()
    with broken(mutation) if mutation else nullcontext():
        verdict = simulate(seed, Six if six else Family, print if trace else None)
    return verdict, time.process_time() - begun
