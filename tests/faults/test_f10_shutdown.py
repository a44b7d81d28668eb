"""F10: whoever is asked to stop under load ends within its grace, with the broker or without; its work is taken up."""

import asyncio
import json
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

from raa_schemas.ids import owned
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
    """Ask all processes to stop at once; gives the seconds each took and its exit code, -9 if it had to be killed.

    Says on standard output what one that ended badly had to say.
    """
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
    for name, server in trial.house.processes.items():
        if server.process.returncode:
            print(f"--- {name} ended with {server.process.returncode}\n{trial.house.log(name)[-3000:]}")  # noqa: T201
    return [took.get(process.pid, (GRACE_SECONDS, -9)) for process in running]


async def loaded(trial: Trial, prefix: str) -> None:
    """Submit tasks and return when calls of each effect are under way."""
    load = trial.load()
    before = len(trial.calls())
    await load.submit(mixed(TASKS, prefix, seconds=CALL_SECONDS))
    await until(lambda: len(trial.calls()) - before >= TASKS // 2)


async def finished(trial: Trial, rounds: range) -> None:
    """Wait until all tasks of all rounds have ended."""
    load = trial.load()
    load.submitted = {f"s{number}-{index}" for number in rounds for index in range(TASKS)}
    await load.until_ended()


def row(trial: Trial, where: str, exits: list[tuple[float, int]], injected: str) -> Row:
    verdict = asyncio.run(trial.verdict())
    seconds = [took for took, _ in exits]
    within = sum(code == 0 for _, code in exits)
    told = {name: verdict.figures.get(name, 0) for name in ("tasks", "lost", "tasks_succeeded")}
    more = {"stops": len(exits), "within_grace": within, "exit_p95_s": p95(seconds), "exit_max_s": max(seconds)}
    return Row("F10", where, injected, told | more | asyncio.run(unknown(trial)), verdict.violations)


async def unknown(trial: Trial) -> dict[str, int]:
    """Count the questions what became of an action, for rounds with the broker and for the odd ones, without it."""
    topic = owned(trial.house.settings.deployment, "action.proposed")
    events = {one.headers["ce_id"]: one for one in await trial.records() if one.topic == topic}
    rounds = [
        int(one.headers["ce_subject"][1:].partition("-")[0])
        for one in events.values()
        if json.loads(one.value or b"{}")["reason"] == "outcome_unknown"
    ]
    return {"unknown": sum(number % 2 == 0 for number in rounds), "unknown_without_broker": sum(n % 2 for n in rounds)}


def check(shown: Row) -> None:
    assert shown.violations == []
    assert shown.figures["within_grace"] == shown.figures["stops"]
    assert shown.figures["tasks_succeeded"] == shown.figures["tasks"]
    assert shown.figures["unknown"] == 0, "a stop waits for what nobody may repeat"


def test_a_stack_that_is_stopped_under_load_ends_in_time_and_leaves_nothing_unknown(
    place: Path, report: list[Row]
) -> None:
    exits = []
    with together(place, drain_seconds=str(DRAIN_SECONDS)) as trial:
        for number in range(0, 2 * ROUNDS, 2):
            trial.house.start()
            asyncio.run(loaded(trial, f"s{number}-"))
            exits += terminate(trial)
        trial.house.start()
        asyncio.run(finished(trial, range(0, 2 * ROUNDS, 2)))
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
            asyncio.run(finished(trial, range(2 * ROUNDS)))
            shown = row(trial, "kafka+sqlite", exits, "SIGTERM under load, every other time without the broker")
    report.append(shown)
    check(shown)
