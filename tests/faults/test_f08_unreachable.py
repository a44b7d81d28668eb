"""F8: a broker that nobody reaches makes services unready, not restless: they wait, keep their size, and go on."""

import asyncio
import time
from typing import Final

import pytest

from tests.faults.exposed import WHERE, Exposed
from tests.faults.footprint import rss_mb
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import until

TASKS: Final = 100 if LONG else 10
CALL_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 60.0 if LONG else 6.0
NOTICED_SECONDS: Final = 30.0
GROWTH_MB: Final = 60.0


async def away(exposed: Exposed, how: str) -> dict[str, float]:
    """Let the broker be out of reach in the middle of a load: refused, or swallowed without a word."""
    load, way = exposed.trial.load(), exposed.bus.way
    pids = exposed.pids()
    before = {name: rss_mb(pid) for name, pid in pids.items()}
    await load.submit(mixed(TASKS, "u", seconds=CALL_SECONDS))
    await until(lambda: len(exposed.trial.calls()) >= TASKS // 4)
    begun = time.monotonic()
    faults = []
    if how == "refused":
        way.close()
    else:
        faults = [way.fault("timeout", stream=stream, timeout=0) for stream in ("upstream", "downstream")]
    await until(lambda: len(exposed.unready()) == len(pids), NOTICED_SECONDS)
    noticed = time.monotonic() - begun
    await asyncio.sleep(AWAY_SECONDS - min(noticed, AWAY_SECONDS))
    growth = max(rss_mb(pid) - before[name] for name, pid in exposed.pids().items())
    for fault in faults:
        way.heal(fault)
    way.open()
    ready = await asyncio.to_thread(exposed.seconds_until_ready)
    await load.until_ended(seconds=180)
    ended = sum(pid != exposed.pids().get(name) for name, pid in pids.items())
    return {"unready_after_s": noticed, "ready_after_s": ready, "growth_mb": growth, "processes_ended": ended}


@pytest.mark.parametrize("how", ["refused", "swallowed"])
def test_a_broker_out_of_reach_makes_services_unready_and_nothing_worse(
    on_proxied: Exposed, report: list[Row], how: str
) -> None:
    figures = asyncio.run(away(on_proxied, how))
    injected = f"connections {how} for {AWAY_SECONDS:g} s"
    row = asyncio.run(judged(on_proxied.trial, f"F8 {how}", WHERE, injected, **figures))
    report.append(row)
    check(row, TASKS)
    assert row.figures["processes_ended"] == 0
    assert row.figures["growth_mb"] <= GROWTH_MB
