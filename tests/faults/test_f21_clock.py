"""F21: a clock that jumps by an hour on one process makes it unready, and gives no work two owners."""

import asyncio
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.house import get, missing
from tests.faults.evidence import Seen
from tests.faults.history import judge
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, until

HOUR: Final = 3600.0
TASKS: Final = 100 if LONG else 12
PER_SECOND: Final = 4
CALL_SECONDS: Final = 0.5
VICTIM: Final = "executor-2"
_LIBRARY: Final = "libfaketimeMT.so.1"


def library() -> str:
    """Find the library that lies about the time; skips where it is not installed."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime: not on the path; apt-get install faketime")
    found = sorted(Path("/usr/lib").glob(f"**/{_LIBRARY}"))
    if not found:
        pytest.skip(f"faketime: no {_LIBRARY} below /usr/lib; apt-get install faketime")
    return str(found[0])


def believing(trial: Trial, file: Path, path: str) -> None:
    """Start the victim again with a wall clock that follows a file; what counts time since boot stays true."""
    command, environment = trial.house.command_of(VICTIM)
    lies = {"LD_PRELOAD": path, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    trial.house.define(VICTIM, command, environment | lies)
    trial.house.processes[VICTIM].stop()
    trial.house.start(VICTIM)
    trial.house.define(VICTIM, command, environment)


def true_times(records: list[Seen]) -> list[Seen]:
    """Take out of the records' times what the victim's clock was wrong by, which is whole hours."""
    now = time.time()
    return [replace(one, timestamp=one.timestamp + round((now - one.timestamp) / HOUR) * HOUR) for one in records]


async def jump(trial: Trial, file: Path, by: str) -> dict[str, float]:
    """Let the victim's clock jump in the middle of a load, and come back."""
    load = trial.load()
    trickling = asyncio.create_task(load.trickle(mixed(TASKS, "j", seconds=CALL_SECONDS), PER_SECOND))
    await until(lambda: any(call.instance.startswith(VICTIM) for call in trial.calls()))
    file.write_text(by)
    address = trial.house.processes[VICTIM].address
    await until(lambda: get(f"{address}/readyz")[0] == 503)
    assert "differ" in missing(address)["store"]
    await trickling
    await asyncio.sleep(4)  # longer than a lease
    file.write_text("+0")
    await until(lambda: get(f"{address}/readyz")[0] == 200)
    await load.until_ended()
    return {"calls_of_the_victim": sum(call.instance.startswith(VICTIM) for call in trial.calls())}


@pytest.mark.parametrize("by", ["+3600", "-3600"])
def test_a_clock_that_jumps_gives_no_work_two_owners(on_servers: Trial, report: list[Row], by: str) -> None:
    path, file = library(), on_servers.folder / f"clock{by}"
    file.write_text("+0")
    believing(on_servers, file, path)
    figures = asyncio.run(jump(on_servers, file, by))
    on_servers.house.processes[VICTIM].stop()
    on_servers.house.start(VICTIM)
    records = true_times(asyncio.run(on_servers.records()))
    verdict = judge(records, on_servers.calls(), deployment=on_servers.house.settings.deployment)
    told = ("tasks", "ended", "lost", "tasks_succeeded", "keyed_twice", "unknown_outcomes", "late_calls")
    more = {name: verdict.figures.get(name, 0) for name in told}
    row = Row(f"F21 {by}", "kafka+mongo+redis", f"{VICTIM}'s clock {by} s", {**more, **figures}, verdict.violations)
    report.append(row)
    assert row.violations == []
    assert row.figures["lost"] == row.figures["late_calls"] == row.figures["keyed_twice"] == 0
    assert row.figures["ended"] == row.figures["tasks"] == TASKS
