"""F10: whoever is asked to stop under load ends within its grace, with the broker or without; its work is taken up."""

import asyncio
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

from tests.backends.kafka import kafka as broker
from tests.backends.process import free_port
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, p95, separate, together, until

DRAIN_SECONDS: Final = 6.0
# past its drain a process has some ten seconds to let go of a bus and a store that do not answer
GRACE_SECONDS: Final = DRAIN_SECONDS + 12.0
ROUNDS: Final = 10 if LONG else 1
TASKS: Final = 20
CALL_SECONDS: Final = 2.0


def terminate(trial: Trial) -> list[tuple[float, int]]:
    """Ask all processes to stop at once; gives the seconds each took and its exit code, -9 if it had to be killed."""
    running = [server.process for server in trial.house.processes.values()]
    begun = time.monotonic()
    for process in running:
        process.send_signal(signal.SIGTERM)
    took: dict[int, tuple[float, int]] = {}
    while len(took) < len(running) and time.monotonic() < begun + GRACE_SECONDS:
        for process in running:
            if process.pid not in took and (code := process.poll()) is not None:
                took[process.pid] = time.monotonic() - begun, code
        time.sleep(0.02)
    for process in running:
        if process.pid not in took:
            process.kill()
            process.wait()
    return [took.get(process.pid, (GRACE_SECONDS, -9)) for process in running]


async def loaded(trial: Trial, prefix: str) -> None:
    """Submit tasks and return when calls of each effect are under way."""
    load = trial.load()
    before = len(trial.calls())
    await load.submit(mixed(TASKS, prefix, seconds=CALL_SECONDS))
    await until(lambda: len(trial.calls()) - before >= TASKS // 2)


async def finished(trial: Trial, tasks: int) -> None:
    """Wait until all tasks of all rounds have ended."""
    load = trial.load()
    load.submitted = {f"s{number}-{index}" for number in range(tasks // TASKS) for index in range(TASKS)}
    await load.until_ended()


def row(trial: Trial, where: str, exits: list[tuple[float, int]], injected: str) -> Row:
    verdict = asyncio.run(trial.verdict())
    seconds = [took for took, _ in exits]
    within = sum(code == 0 for _, code in exits)
    told = {name: verdict.figures.get(name, 0) for name in ("tasks", "lost", "tasks_succeeded", "unknown_outcomes")}
    more = {"stops": len(exits), "within_grace": within, "exit_p95_s": p95(seconds), "exit_max_s": max(seconds)}
    return Row("F10", where, injected, told | more, verdict.violations)


def check(shown: Row) -> None:
    assert shown.violations == []
    assert shown.figures["within_grace"] == shown.figures["stops"]
    assert shown.figures["tasks_succeeded"] == shown.figures["tasks"]
    assert shown.figures["unknown_outcomes"] == 0, "a stop waits for what nobody may repeat"


def test_a_stack_that_is_stopped_under_load_ends_in_time_and_leaves_nothing_unknown(
    place: Path, report: list[Row]
) -> None:
    exits = []
    with together(place, drain_seconds=str(DRAIN_SECONDS)) as trial:
        for number in range(ROUNDS):
            trial.house.start()
            asyncio.run(loaded(trial, f"s{number}-"))
            exits += terminate(trial)
        trial.house.start()
        asyncio.run(finished(trial, ROUNDS * TASKS))
        shown = row(trial, "embedded+sqlite", exits, "SIGTERM under load")
    report.append(shown)
    check(shown)


def test_services_that_are_stopped_under_load_end_in_time_with_and_without_a_broker(
    place: Path, kafka: str, report: list[Row]
) -> None:
    port, exits = free_port(), list[tuple[float, int]]()
    with TemporaryDirectory(prefix="raa-kafka-") as folder, ExitStack() as servers:
        own = servers.enter_context(broker(Path(folder), port=port))
        drain = str(DRAIN_SECONDS)
        with separate(place, deployment=f"f{uuid4().hex[:8]}", kafka=own.address, drain_seconds=drain) as trial:
            for number in range(2 * ROUNDS):
                trial.house.start()
                asyncio.run(loaded(trial, f"s{number}-"))
                if number % 2:
                    own.kill()
                exits += terminate(trial)
                if number % 2:
                    own = servers.enter_context(broker(Path(folder), port=port))
            trial.house.start()
            asyncio.run(finished(trial, 2 * ROUNDS * TASKS))
            shown = row(trial, "kafka+sqlite", exits, "SIGTERM under load, every other time without the broker")
    report.append(shown)
    check(shown)
