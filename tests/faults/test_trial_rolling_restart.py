"""Rolling restart: every process is stopped and started again, one after the other, under load, and nobody notices."""

import asyncio
import signal
import time
from typing import Final

from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, p95

TASKS: Final = 500 if LONG else 40
PER_SECOND: Final = 5 if LONG else 4
CALL_SECONDS: Final = 0.5
ROUNDS: Final = 5 if LONG else 1
STOPS_SECONDS: Final = 45.0


async def one_by_one(trial: Trial, took: list[float]) -> None:
    """Ask each process to stop, start it again, and go on when it is ready; notes how long each was away."""
    for name, server in list(trial.house.processes.items()):
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(asyncio.to_thread(server.process.wait), STOPS_SECONDS)
        assert code == 0, f"{name} ended with {code}\n{trial.house.log(name)[-3000:]}"
        trial.house.launch(name)
        await asyncio.to_thread(trial.house.wait, name)
        took.append(time.monotonic() - begun)


async def under_load(trial: Trial) -> list[float]:
    """Restart everything while tasks come in; gives how long each process was away."""
    load, took = trial.load(), list[float]()
    trickling = asyncio.create_task(load.trickle(mixed(TASKS, "r", seconds=CALL_SECONDS), PER_SECOND))
    for _ in range(ROUNDS):
        await one_by_one(trial, took)
    await trickling
    await load.until_ended(seconds=180)
    return took


def test_a_rolling_restart_under_load_loses_nothing_and_leaves_nothing_unknown(
    on_servers: Trial, report: list[Row]
) -> None:
    took = asyncio.run(under_load(on_servers))
    injected = f"{len(took)} restarts, one by one"
    row = asyncio.run(judged(on_servers, "rolling restart", "kafka+mongo+redis", injected, away_p95_s=p95(took)))
    report.append(row)
    check(row, TASKS)
    assert row.figures["unknown_outcomes"] == 0
