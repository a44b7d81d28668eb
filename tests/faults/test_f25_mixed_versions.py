"""F25: two releases side by side, whose partitions wander between them, lose no task and no field."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.faults.gather import aggregates
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, separate

FIELD: Final = "since_next_release"
TASKS: Final = 200 if LONG else 12
PER_SECOND: Final = 4
CALL_SECONDS: Final = 0.5
MOVES: Final = 10 if LONG else 2
UPGRADED: Final = ("planner-2", "executor-2")
LEFT: Final = ("planner-1", "executor-1")


def upgrade(trial: Trial, name: str, what: str) -> None:
    """Let every later start of a process be that of the next release."""
    command, environment = trial.house.command_of(name)
    launcher = [part.replace("failpoints.py", "newer.py") for part in command]
    trial.house.define(name, launcher, environment | {"RAA_TEST_NEWER": what})


async def restart(trial: Trial, *names: str) -> None:
    """Stop processes and start them again as they are described now."""
    for name in names:
        await asyncio.to_thread(trial.house.processes[name].stop)
    trial.house.launch(*names)
    await asyncio.to_thread(trial.house.wait, *names)


async def side_by_side(trial: Trial, what: str) -> None:
    """Put load on both releases while the newer one comes and goes; at its end the older one is upgraded too."""
    load = trial.load()
    trickling = asyncio.create_task(load.trickle(mixed(TASKS, "v", seconds=CALL_SECONDS), PER_SECOND))
    for number in range(MOVES):
        await asyncio.sleep(TASKS / PER_SECOND / (MOVES + 1))
        await restart(trial, *(LEFT if number % 2 else UPGRADED))
    await trickling
    for name in LEFT:
        upgrade(trial, name, what)
    await restart(trial, *LEFT)
    await load.until_ended()


def upgraded(trial: Trial) -> Iterator[bool]:
    """Say of each stored aggregate of the upgraded services whether it has the new field."""
    kinds = {"planner.task", "executor.run", "executor.step"}
    for kind, stored in aggregates(trial.house.settings, trial.stores):
        if kind in kinds and stored["tenant"] == trial.tenant:
            yield FIELD in stored["state"]


# a new major version has the new field too
@pytest.mark.parametrize("what", [pytest.param("field", marks=pytest.mark.long), "major"])
def test_two_releases_side_by_side_lose_nothing(
    place: Path, kafka: str, mongo: str, redis_url: str, report: list[Row], what: str
) -> None:
    with separate(
        place, deployment=f"f{uuid4().hex[:8]}", kafka=kafka, mongo=mongo, redis_url=redis_url, instances={"planner": 2}
    ) as trial:
        for name in UPGRADED:
            upgrade(trial, name, what)
        trial.house.start()
        asyncio.run(side_by_side(trial, what))
        row = asyncio.run(judged(trial, f"F25 {what}", "kafka+mongo+redis", f"one {what} more, {MOVES} moves"))
        marked = list(upgraded(trial))
    figures = {**row.figures, "aggregates": len(marked), "with_the_new_field": sum(marked)}
    report.append(Row(row.id, row.where, row.injected, figures, row.violations))
    check(row, TASKS)
    assert sum(marked) > 0
