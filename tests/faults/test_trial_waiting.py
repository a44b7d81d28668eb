"""Thousands of tasks wait for a model at the same time on one node, which dies in the middle: none is lost."""

import asyncio
import json
import time
import urllib.request
from pathlib import Path
from typing import Final

from raa_schemas.task import TaskCreated
from tests.faults.exposed import model_server, with_model
from tests.faults.footprint import rss_mb
from tests.faults.judged import check, judged
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, together, until

TASKS: Final = 10_000 if LONG else 300
MODEL_SECONDS: Final = 30.0 if LONG else 3.0
BEFORE_THE_KILL: Final = 0.9 if LONG else 0.5  # of the tasks have asked the model
PATIENCE_SECONDS: Final = 900.0 if LONG else 90.0
CALLS_PER_TASK: Final = 2.2  # once, and once more for what was under way when the process died
MOST_MB: Final = 1_500.0 if LONG else 400.0


def asked() -> list[TaskCreated]:
    """Give tasks whose plan has to come from the model."""
    constraints = {"memory": "off", "deadline_seconds": 3_000}
    bodies = [
        {"task_id": f"w{number}", "goal": f"What is 1 + 1? {number}", "constraints": constraints}
        for number in range(TASKS)
    ]
    return [TaskCreated.model_validate(body) for body in bodies]


def stats(address: str) -> dict[str, int]:
    """Ask the model what it was asked."""
    with urllib.request.urlopen(f"{address}/stats", timeout=60) as answer:
        told: dict[str, int] = json.load(answer)
        return told


async def under_way(trial: Trial, address: str) -> dict[str, float]:
    """Submit all at once, kill the process while they wait, and see them to their ends."""
    load, begun, heaviest = trial.load(), time.monotonic(), [0.0]
    watching = asyncio.create_task(watch(trial, heaviest))
    await load.submit(asked())
    submitted = time.monotonic() - begun
    await until(lambda: stats(address)["calls"] >= BEFORE_THE_KILL * TASKS, PATIENCE_SECONDS)
    waiting = stats(address)["now"]
    trial.kill("raa")
    trial.house.launch("raa")
    await load.until_ended(seconds=PATIENCE_SECONDS)
    watching.cancel()
    calls = stats(address)["calls"]
    return {
        "submitted_s": submitted,
        "ended_s": time.monotonic() - begun,
        "waiting_at_the_kill": waiting,
        "calls_per_task": calls / TASKS,
        "peak_rss_mb": heaviest[0],
    }


async def watch(trial: Trial, heaviest: list[float]) -> None:
    """Look at the process's memory until cancelled."""
    while True:
        server = trial.house.processes["raa"].process
        if server.poll() is None and Path(f"/proc/{server.pid}/statm").exists():
            heaviest[0] = max(heaviest[0], rss_mb(server.pid))
        await asyncio.sleep(0.5)


def test_tasks_that_all_wait_for_a_model_survive_the_death_of_their_process(place: Path, report: list[Row]) -> None:
    most = str(2 * TASKS)
    with (
        model_server(place / "model", MODEL_SECONDS) as address,
        together(
            place,
            lease_seconds="2",
            max_active_tasks=most,
            max_active_tasks_per_tenant=most,
            http_max_connections=str(TASKS + 2_000),
        ) as trial,
    ):
        with_model(trial, address)
        trial.house.start()
        figures = asyncio.run(under_way(trial, address))
        trial.house.wait()
        injected = f"{TASKS} tasks wait {MODEL_SECONDS:g} s each, kill -9"
        row = asyncio.run(judged(trial, "waiting", "embedded+sqlite", injected, **figures))
    report.append(row)
    check(row, TASKS)
    assert row.figures["calls_per_task"] <= CALLS_PER_TASK
    assert row.figures["peak_rss_mb"] <= MOST_MB
