"""F23: with large inputs a stack keeps within a bound of memory; at its limit it loses nothing that it took."""

import asyncio
import shutil
from pathlib import Path
from typing import Final

import pytest

from raa_schemas.task import TaskCreated
from tests.faults.footprint import rss_mb
from tests.faults.judged import check, judged
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, meanwhile, together

TASKS: Final = 400 if LONG else 40
INPUTS: Final = 6
INPUT_BYTES: Final = 60_000
LIMIT_MB: Final = 700  # of private memory, the stacks of its threads included
MOST_RSS_MB: Final = 450.0


def large(number: int) -> TaskCreated:
    """Plan a calculation beside inputs of more than half a megabyte."""
    plan = {
        "steps": [{"id": "sum", "tool": "calculate", "args": {"expression": "1 + 1"}}],
        "result": {"ref": "sum", "path": "/value"},
    }
    return TaskCreated.model_validate({
        "task_id": f"m{number}",
        "goal": "What is 1 + 1?",
        "inputs": [{"name": f"part{part}.txt", "data": "x" * INPUT_BYTES} for part in range(INPUTS)],
        "plan": plan,
        "constraints": {"memory": "off", "deadline_seconds": 900},
    })  # fmt: skip


async def peak(trial: Trial, most: list[float]) -> None:
    """Look at the process's memory until cancelled."""
    while True:
        most.append(rss_mb(trial.house.pid_of("raa")))
        await asyncio.sleep(0.1)


async def heavy(trial: Trial, most: list[float]) -> None:
    """Submit all large tasks at once."""
    load = trial.load()
    async with meanwhile(asyncio.create_task(peak(trial, most))):
        await load.submit(large(number) for number in range(TASKS))
        await load.until_ended(seconds=180)


def test_large_inputs_stay_within_a_bound_of_memory(place: Path, report: list[Row]) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit: not on the path; it comes with util-linux")
    with together(place, lease_seconds="2") as trial:
        command, environment = trial.house.command_of("raa")
        trial.house.define("raa", ["prlimit", f"--data={LIMIT_MB << 20}", "--", *command], environment)
        trial.house.start()
        pid, most = trial.house.pid_of("raa"), [0.0]
        asyncio.run(heavy(trial, most))
        ended = int(not trial.house.alive() or pid != trial.house.pid_of("raa"))
        injected = f"{TASKS} inputs of {INPUTS * INPUT_BYTES} bytes, limit {LIMIT_MB} MB"
        row = asyncio.run(
            judged(trial, "F23", "embedded+sqlite", injected, peak_rss_mb=max(most), processes_ended=ended)
        )
    report.append(row)
    check(row, TASKS)
    assert ended == 0
    assert row.figures["peak_rss_mb"] <= MOST_RSS_MB
