"""F4: an executor that stands still for longer than its lease and then goes on changes nothing that others decided."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Final

from raa_schemas.ids import owned
from tests.faults.evidence import Call, Seen
from tests.faults.load import EXTERNAL, mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, until

LEASE_SECONDS: Final = 3.0  # of the shared deployment
CALL_SECONDS: Final = 2.0
TOOLS: Final = ("ledger.read", *EXTERNAL)
ROUNDS: Final = 10 if LONG else 1


async def freeze_while_calling(trial: Trial, number: int) -> list[Call]:
    """Stop an executor in the middle of its calls for three leases; gives these calls."""
    load = trial.load()
    before = len(_received(trial))
    tasks = mixed(2 * len(TOOLS), f"z{number}-", TOOLS, seconds=CALL_SECONDS)
    await load.submit(tasks)
    await until(lambda: len(_received(trial)) - before >= len(tasks))
    busiest = Counter(_name(call) for call in _received(trial)[before:]).most_common(1)[0][0]
    pid = trial.house.pid_of(busiest)
    os.kill(pid, signal.SIGSTOP)
    try:
        frozen = [call for call in _received(trial)[before:] if _name(call) == busiest]
        await asyncio.sleep(3 * LEASE_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)
    await load.until_ended(seconds=60)
    return frozen


def _received(trial: Trial) -> list[Call]:
    return [call for call in trial.calls() if call.phase == "received"]


def _name(call: Call) -> str:
    return call.instance.partition(":")[0]


def _fenced(frozen: Sequence[Call], records: Sequence[Seen], deployment: str) -> list[Call]:
    """Give the calls of a frozen process whose steps another one settled."""
    topic = owned(deployment, "step.finished")
    bodies = [json.loads(record.value or b"{}") for record in records if record.topic == topic]
    settled = {(body["task_id"], body["step"]): body["epoch"] for body in bodies}
    return [call for call in frozen if settled[call.task, call.step] != call.epoch]


def _stale(told: Sequence[Call], calls: Sequence[Call]) -> int:
    """Count the calls whose outcome was taken although another process had begun the step again."""
    newest: dict[tuple[str, str], int] = {}
    for call in calls:
        newest[call.task, call.step] = max(call.epoch, newest.get((call.task, call.step), 0))
    return sum(newest[call.task, call.step] > call.epoch for call in told)


def test_what_a_frozen_executor_says_when_it_goes_on_is_refused(on_servers: Trial, report: list[Row]) -> None:
    frozen = [call for number in range(ROUNDS) for call in asyncio.run(freeze_while_calling(on_servers, number))]
    verdict, records = asyncio.run(on_servers.verdict()), asyncio.run(on_servers.records())
    fenced = _fenced(frozen, records, on_servers.house.settings.deployment)
    told = ("tasks", "lost", "tasks_succeeded", "keyed_twice", "keyed_repeats", "unknown_outcomes", "late_calls")
    figures = {name: verdict.figures.get(name, 0) for name in told}
    stale = _stale([call for call in frozen if call not in fenced], _received(on_servers))
    more = {"frozen_calls": len(frozen), "fenced_writes": len(fenced), "stale_accepted": stale}
    report.append(Row("F4", "kafka+mongo+redis", f"{ROUNDS} SIGSTOP for 3 leases", figures | more, verdict.violations))
    assert verdict.violations == []
    assert fenced
    assert stale == 0, "who was not taken over in time may still say what became of its call; others may not"
    assert figures["tasks_succeeded"] == figures["tasks"]
    assert figures["unknown_outcomes"] <= sum(call.effect == "once" for call in frozen)
