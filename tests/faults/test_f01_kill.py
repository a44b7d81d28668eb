"""F1: whatever dies by kill -9 under load, and however often, each task ends once and nothing happens twice."""

import asyncio
import random
from pathlib import Path
from uuid import uuid4

from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, meanwhile, p95, separate, together

TASKS = 500 if LONG else 30
PER_SECOND = 5
CALL_SECONDS = 0.5  # so that kills meet some of them under way
EVERY = (0.5, 5.0) if LONG else (0.5, 2.5)  # seconds between kills
SEED = 1


async def under_kills(trial: Trial, where: str, names: list[str], every: tuple[float, float]) -> Row:
    """Put load on a deployment while its processes die at random; gives the row of the table."""
    load = trial.load()
    killing = asyncio.create_task(trial.kill_at_random(random.Random(SEED), names, every))
    async with meanwhile(killing):
        await load.trickle(mixed(TASKS, "k", seconds=CALL_SECONDS), PER_SECOND)
        await load.until_ended(seconds=TASKS * 3 + 60)
    await asyncio.to_thread(trial.house.wait)
    return await judged(trial, where, f"{len(trial.kills)} kill -9")


async def judged(trial: Trial, where: str, injected: str) -> Row:
    verdict, records = await trial.verdict(), await trial.records()
    told = ("tasks", "lost", "tasks_succeeded", "keyed_twice", "keyed_repeats", "unknown_outcomes", "told_again")
    waits = trial.recoveries(records)
    figures = {name: verdict.figures.get(name, 0) for name in told}
    more = {"inside_the_window": trial.inside_the_window(records), "first_progress_p95_s": round(p95(waits), 2)}
    return Row("F1", where, injected, figures | more, verdict.violations)


def check(row: Row) -> None:
    assert row.violations == []
    assert row.figures["lost"] == row.figures["keyed_twice"] == 0
    assert row.figures["tasks_succeeded"] == row.figures["tasks"] == TASKS
    assert row.figures["unknown_outcomes"] <= row.figures["inside_the_window"]
    assert row.figures["first_progress_p95_s"] <= 15


def test_every_task_ends_once_while_the_whole_stack_is_killed_again_and_again(place: Path, report: list[Row]) -> None:
    with together(place, lease_seconds="2") as trial:
        trial.house.start()
        row = asyncio.run(under_kills(trial, "embedded+sqlite", ["raa"], EVERY))
    report.append(row)
    check(row)


def test_every_task_ends_once_while_services_on_servers_are_killed(on_servers: Trial, report: list[Row]) -> None:
    names = list(on_servers.house.processes)
    row = asyncio.run(under_kills(on_servers, "kafka+mongo+redis", names, EVERY))
    report.append(row)
    check(row)


def test_every_task_ends_once_while_services_on_files_are_killed(place: Path, kafka: str, report: list[Row]) -> None:
    with separate(place, deployment=f"f{uuid4().hex[:8]}", kafka=kafka) as trial:
        trial.house.start()
        names = list(trial.house.processes)
        row = asyncio.run(under_kills(trial, "kafka+sqlite", names, EVERY))
    report.append(row)
    check(row)
