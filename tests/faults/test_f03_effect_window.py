"""F3: a process that dies between a tool's return and the write of its outcome repeats only what may be repeated."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

from tests.faults.load import Load, planned
from tests.faults.report import Row
from tests.faults.trial import Trial, meanwhile, together

EFFECTS: Final = ("read", "keyed", "checkable", "once")
# what the far side is asked to do, and asked about, when the process dies after the answer, or before the question
RECEIVED: Final = {
    "die_after": {"read": 2, "keyed": 2, "checkable": 1, "once": 1},
    "die_before": {"read": 1, "keyed": 1, "checkable": 1, "once": 1},
}


async def one_by_one(trial: Trial, where: str, modes: tuple[str, ...]) -> Row:
    """Let a process die in the window of one action after the other; gives the row of the table."""
    load = trial.load()
    async with meanwhile(asyncio.create_task(trial.revive())):
        for mode in modes:
            for effect in EFFECTS:
                await _to_its_end(load, f"{mode.replace('_', '-')}-{effect}", effect, mode)
    await asyncio.to_thread(trial.house.wait)
    verdict = await trial.verdict()
    told = ("tasks", "lost", "tasks_succeeded", "keyed_effects", "keyed_repeats", "once_started", "unknown_outcomes")
    figures = {name: verdict.figures.get(name, 0) for name in (*told, "probes", "keyed_twice")}
    return Row("F3", where, f"{len(trial.kills)} crashes in the window", figures, verdict.violations)


async def _to_its_end(load: Load, name: str, effect: str, mode: str) -> None:
    await load.submit([planned(name, f"ledger.{effect}", mode=mode)])
    await load.until_ended(seconds=60)


def check(row: Row, trial: Trial, modes: tuple[str, ...]) -> None:
    assert row.violations == []
    assert row.figures["tasks_succeeded"] == row.figures["tasks"] == len(modes) * len(EFFECTS)
    received = Counter((call.task, call.effect) for call in trial.calls() if call.phase == "received")
    for mode in modes:
        counts = {effect: received[f"{mode.replace('_', '-')}-{effect}", effect] for effect in EFFECTS}
        assert counts == RECEIVED[mode]
    assert row.figures["unknown_outcomes"] == len(modes), "each `once` that was cut off is put before a person"
    assert row.figures["probes"] >= len(modes), "each `checkable` that was cut off is looked up"
    assert row.figures["keyed_twice"] == 0
    assert len(trial.kills) == len(modes) * len(EFFECTS)


def test_a_crash_in_the_window_repeats_only_what_may_be_repeated(place: Path, report: list[Row]) -> None:
    modes = ("die_after", "die_before")
    with together(place, lease_seconds="2") as trial:
        trial.house.start()
        row = asyncio.run(one_by_one(trial, "embedded+sqlite", modes))
        report.append(row)
        check(row, trial, modes)


def test_another_executor_repeats_only_what_may_be_repeated(on_servers: Trial, report: list[Row]) -> None:
    modes = ("die_after",)
    row = asyncio.run(one_by_one(on_servers, "kafka+mongo+redis", modes))
    report.append(row)
    check(row, on_servers, modes)
