"""F7: a broker that is restarted or killed under load costs time, and nothing that was acknowledged."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.backends.kafka_cluster import KafkaCluster, kafka_cluster
from tests.faults.exposed import WHERE, Exposed
from tests.faults.judged import check, judged
from tests.faults.load import Load, mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, separate, until

TASKS: Final = 300 if LONG else 15
PER_SECOND: Final = 5
CALL_SECONDS: Final = 0.5
DOWN_SECONDS: Final = 20.0 if LONG else 2.0
ENDS_SECONDS: Final = 180


async def under_load(load: Load, tasks: int, hurt: Callable[[], None], heal: Callable[[], None]) -> None:
    """Hurt and heal something in the middle of a load, and see all of it end."""
    trickling = asyncio.create_task(load.trickle(mixed(tasks, "b", seconds=CALL_SECONDS), PER_SECOND))
    await until(lambda: len(load.submitted) >= tasks // 3, seconds=ENDS_SECONDS)
    await asyncio.to_thread(hurt)
    await asyncio.sleep(DOWN_SECONDS)
    heal()  # here, because what a thread of the loop starts ends with that thread
    await trickling
    await load.until_ended(seconds=ENDS_SECONDS)


@pytest.mark.parametrize("how", [pytest.param("stop", marks=pytest.mark.long), "kill"])
def test_a_broker_that_is_away_for_a_while_costs_nothing_that_was_acknowledged(
    on_proxied: Exposed, report: list[Row], how: str
) -> None:
    trial, bus = on_proxied.trial, on_proxied.bus
    pids, back = on_proxied.pids(), list[float]()

    def restart() -> None:
        bus.on()
        back.append(on_proxied.seconds_until_ready())

    hurt = bus.server.stop if how == "stop" else bus.server.kill
    asyncio.run(under_load(trial.load(), TASKS, hurt, restart))
    ended = sum(pid != on_proxied.pids().get(name) for name, pid in pids.items())
    injected = f"broker {'SIGTERM' if how == 'stop' else 'kill -9'}, {DOWN_SECONDS:g} s away"
    row = asyncio.run(judged(trial, f"F7 {how}", WHERE, injected, ready_after_s=back[0], processes_ended=ended))
    report.append(row)
    check(row, TASKS)
    assert ended == 0
    assert row.figures["unknown_outcomes"] == 0


def test_one_broker_of_three_that_dies_costs_nothing(place: Path, kafka: str, report: list[Row]) -> None:
    assert kafka  # a machine that can run one broker can run three
    with kafka_cluster(place / "cluster") as cluster, of_cluster(place, cluster) as trial:
        trial.house.start()
        back = list[float]()

        def restart() -> None:
            cluster.restart(0)
            begun = time.monotonic()
            trial.house.wait()
            back.append(time.monotonic() - begun)

        asyncio.run(under_load(trial.load(), TASKS, cluster.brokers[0].kill, restart))
        injected = f"1 of 3 brokers kill -9, {DOWN_SECONDS:g} s away"
        row = asyncio.run(judged(trial, "F7 cluster", "3 kafka+sqlite", injected, ready_after_s=back[0]))
    report.append(row)
    check(row, TASKS)


def of_cluster(place: Path, cluster: KafkaCluster) -> contextlib.AbstractContextManager[Trial]:
    """Describe services on files and three brokers, each record on three."""
    return separate(
        place / "house", deployment=f"f{uuid4().hex[:8]}", kafka=cluster.bootstrap, kafka_replication="3",
        kafka_partitions="2",
    )  # fmt: skip
