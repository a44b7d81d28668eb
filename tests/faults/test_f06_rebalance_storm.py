"""F6: instances that come and go every few seconds slow a deployment down, and let nothing happen twice."""

import asyncio
import time
from typing import Final

from tests.backends.process import free_port
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, meanwhile

TASKS: Final = 400 if LONG else 30
PER_SECOND: Final = 4
CALL_SECONDS: Final = 0.3
EVERY_SECONDS: Final = 3.0
GUESTS: Final = ("planner-9", "executor-9")


def invite(trial: Trial) -> None:
    """Describe one more planner and one more executor."""
    for name in GUESTS:
        command, environment = trial.house.command_of(f"{name.partition('-')[0]}-1")
        environment |= {"RAA_INSTANCE": name, "RAA_DATA": str(trial.house.folder / name)}
        trial.house.define(name, command, environment, free_port())


async def come_and_go(trial: Trial, changes: list[str]) -> None:
    """Start one more instance and end it again, politely and rudely in turn, until cancelled."""
    try:
        while True:
            for rude in (False, True):
                for name in GUESTS:
                    trial.house.launch(name)
                    await asyncio.sleep(EVERY_SECONDS)
                    process = trial.house.processes[name].process
                    (process.kill if rude else process.terminate)()
                    changes.append(name)
                    await asyncio.to_thread(process.wait)
    finally:
        for name in GUESTS:
            if (server := trial.house.processes.pop(name, None)) is not None:
                server.kill()
            trial.house._commands.pop(name)


async def timed(trial: Trial, prefix: str) -> float:
    """Run the load; gives how long it took."""
    load, begun = trial.load(), time.monotonic()
    await load.trickle(mixed(TASKS, prefix, seconds=CALL_SECONDS), PER_SECOND)
    await load.until_ended(seconds=TASKS + 120)
    return time.monotonic() - begun


async def calm_and_storm(trial: Trial) -> dict[str, float]:
    """Run the same load twice, the second time with instances that come and go."""
    calm, changes = await timed(trial, "c"), list[str]()
    invite(trial)
    async with meanwhile(asyncio.create_task(come_and_go(trial, changes))):
        storm = await timed(trial, "s")
    return {"changes": 2 * len(changes), "throughput_ratio": calm / storm}


def test_instances_that_come_and_go_let_nothing_happen_twice(on_servers: Trial, report: list[Row]) -> None:
    figures = asyncio.run(calm_and_storm(on_servers))
    injected = f"an instance more or less every {EVERY_SECONDS:g} s"
    row = asyncio.run(judged(on_servers, "F6", "kafka+mongo+redis", injected, **figures))
    report.append(row)
    check(row, 2 * TASKS)
