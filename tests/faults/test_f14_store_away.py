"""F14: while the store stands still or is slow nothing is acknowledged that it did not write, and no queue grows."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from raa_schemas.ids import owned
from raa_schemas.topics import SERVICES
from tests.e2e.house import get
from tests.faults.exposed import MAX_IN_FLIGHT, WHERE, Exposed
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import until

TASKS: Final = 300 if LONG else 3 * MAX_IN_FLIGHT
STILL_SECONDS: Final = 30.0 if LONG else 4.0
SLOW_MS: Final = 5_000 if LONG else 1_000
SETTLES_SECONDS: Final = 2.0
GAUGE: Final = "_in_flight_records "


def committed(exposed: Exposed) -> dict[tuple[str, str, int], int]:
    """Give what every group of the deployment has acknowledged."""
    settings = exposed.trial.house.settings
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    told: dict[tuple[str, str, int], int] = {}
    for service in SERVICES:
        group = owned(settings.deployment, service)
        for future in admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values():
            told |= {(group, place.topic, place.partition): place.offset for place in future.result().topic_partitions}
    return told


def most_in_flight(exposed: Exposed) -> int:
    """Give the most records that any process has taken and not settled."""
    counts = [0.0]
    for process in exposed.trial.house.processes.values():
        lines = get(f"{process.address}/metrics")[1].splitlines()
        counts += [float(line.rpartition(" ")[2]) for line in lines if GAUGE in line and not line.startswith("#")]
    return int(max(counts))


async def watch(exposed: Exposed, seen: list[int]) -> None:
    """Look at the queues until cancelled."""
    while True:
        seen.append(await asyncio.to_thread(most_in_flight, exposed))
        await asyncio.sleep(0.3)


async def stands_still(exposed: Exposed) -> dict[str, float]:
    """Freeze the store under load; nothing that came in since may be acknowledged."""
    load, seen = exposed.trial.load(), [0]
    await load.submit(mixed(TASKS // 3, "e"))
    await until(lambda: len(exposed.trial.calls()) > 1)
    exposed.store.freeze()
    watching = asyncio.create_task(watch(exposed, seen))
    try:
        await asyncio.sleep(SETTLES_SECONDS)  # what it had answered by then is acknowledged a moment later
        before = await asyncio.to_thread(committed, exposed)
        await load.submit(mixed(TASKS - TASKS // 3, "l"))
        await asyncio.sleep(STILL_SECONDS)
        after = await asyncio.to_thread(committed, exposed)
        unready = len(exposed.unready())
    finally:
        watching.cancel()
        exposed.store.thaw()
    ready = await asyncio.to_thread(exposed.seconds_until_ready)
    await load.until_ended(seconds=180)
    acknowledged = sum(after[place] - before.get(place, 0) for place in after if after[place] > before.get(place, 0))
    return {"acknowledged_meanwhile": acknowledged, "most_in_flight": max(seen), "unready": unready,
            "ready_after_s": ready}  # fmt: skip


async def is_slow(exposed: Exposed) -> dict[str, float]:
    """Delay every answer of the store under load for a while."""
    load, seen = exposed.trial.load(), [0]
    await load.submit(mixed(TASKS // 3, "e"))
    fault = exposed.store.way.fault("latency", latency=SLOW_MS)
    watching = asyncio.create_task(watch(exposed, seen))
    try:
        await load.submit(mixed(TASKS - TASKS // 3, "l"))
        await asyncio.sleep(STILL_SECONDS)
    finally:
        watching.cancel()
        exposed.store.way.heal(fault)
    ready = await asyncio.to_thread(exposed.seconds_until_ready)
    await load.until_ended(seconds=180)
    return {"most_in_flight": max(seen), "ready_after_s": ready}


@pytest.mark.parametrize(
    ("hurt", "injected"),
    [
        pytest.param(stands_still, f"store SIGSTOP for {SETTLES_SECONDS + STILL_SECONDS:g} s", id="still"),
        pytest.param(is_slow, f"answers {SLOW_MS} ms late for {STILL_SECONDS:g} s", id="slow"),
    ],
)
def test_a_store_that_does_not_answer_stops_acknowledgements_and_grows_no_queue(
    on_proxied: Exposed,
    report: list[Row],
    hurt: Callable[[Exposed], Coroutine[None, None, dict[str, float]]],
    injected: str,
) -> None:
    pids = on_proxied.pids()
    figures = asyncio.run(hurt(on_proxied))
    ended = sum(pid != on_proxied.pids().get(name) for name, pid in pids.items())
    row = asyncio.run(
        judged(on_proxied.trial, f"F14 {hurt.__name__}", WHERE, injected, **figures, processes_ended=ended)
    )
    report.append(row)
    check(row, TASKS)
    assert ended == 0
    assert row.figures["most_in_flight"] <= MAX_IN_FLIGHT
    assert row.figures.get("acknowledged_meanwhile", 0) == 0
