"""F2: a process that dies at any point where a handler or an activity waits loses nothing and repeats nothing."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.faults.load import EXTERNAL, mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, meanwhile, together

IN_CI: Final = 8
AT_ONCE: Final = 4
TOOLS: Final = ("ledger.read", *EXTERNAL)


async def load_of_one_run(trial: Trial) -> None:
    """Do one task of each effect class, with whatever dies on the way started again."""
    load = trial.load()
    async with meanwhile(asyncio.create_task(trial.revive())):
        await load.submit(mixed(len(TOOLS), "f", TOOLS, mode="plain"))
        await load.until_ended(seconds=60)
    await asyncio.to_thread(trial.house.wait)


def count_points() -> int:
    """Run once without a crash and count the points that are passed."""
    with TemporaryDirectory(prefix="raa-") as folder:
        counter = Path(folder) / "points"
        with together(Path(folder), failpoint_count=str(counter), lease_seconds="2") as trial:
            trial.house.start()
            asyncio.run(load_of_one_run(trial))
            return int(counter.read_text())


def run_with_crash_at(point: int) -> tuple[list[str], str]:
    """Run with a crash at a point; gives what was violated, and where the process died."""
    with TemporaryDirectory(prefix="raa-") as folder:
        with together(Path(folder), failpoint=str(point), lease_seconds="2") as trial:
            trial.house.launch()
            trial.relaunch_without("RAA_FAILPOINT")
            asyncio.run(load_of_one_run(trial))
            verdict = asyncio.run(trial.verdict())
        found = [line for line in trial.house.log("raa").splitlines() if line.startswith("failpoint ")]
        if verdict.figures.get("tasks_succeeded") != len(TOOLS):
            verdict.violations.append(f"{verdict.figures} instead of {len(TOOLS)} tasks that succeeded")
        return verdict.violations, found[0] if found else ""


def test_a_crash_at_any_await_of_a_handler_or_activity_loses_and_repeats_nothing(report: list[Row]) -> None:
    total = count_points()
    step = 1 if LONG else max(1, total // IN_CI)
    tried = range(1 if LONG else 1 + step // 2, total + 1, step)
    broken, reached = list[str](), 0
    with ThreadPoolExecutor(AT_ONCE) as pool:  # a run waits more than it works
        for point, (violations, where) in zip(tried, pool.map(run_with_crash_at, tried), strict=True):
            reached += bool(where)
            broken += [f"{where or point}: {'; '.join(violations)}"] if violations else []
            if LONG:
                print(where or f"failpoint {point} was not reached", *violations, sep="\n  ", flush=True)  # noqa: T201
    figures = {"points": total, "tried": len(tried), "reached": reached, "passed": len(tried) - len(broken)}
    report.append(Row("F2", "embedded+sqlite", "a crash at the k-th await", figures, broken))
    assert broken == []
    assert reached > len(tried) // 2
