"""A service whose bus, store or cache is not there yet, or goes away: not ready, alive, and back by itself."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.port import Message
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned
from raa_schemas.topics import dead_letter_topic
from tests.backends.kafka import kafka as start_kafka
from tests.backends.mongo import mongo as start_mongo
from tests.backends.process import Server, free_port
from tests.backends.redis import redis as start_redis
from tests.e2e.house import House, get, missing
from tests.waiting import wait_until

GARBAGE = b"no event"


class Alone:
    """One service in a process of its own; the servers it needs are started and stopped by the test."""

    def __init__(self, folder: Path, service: str, program: Path | None = None, **variables: str) -> None:
        self.port, self.name = free_port(), service
        given = {f"RAA_{name.upper()}": value for name, value in variables.items()}
        given |= {"RAA_BUS": "kafka", "RAA_DATA": str(folder / service), "RAA_INSTANCE": "only",
                  "RAA_KAFKA_HEARTBEAT_SECONDS": "0.3", "RAA_KAFKA_SESSION_SECONDS": "3"}  # fmt: skip
        self.settings = ServiceSettings.from_env(given)
        self.house = House(folder, self.settings)
        self.house.define(
            service, [sys.executable, *([str(program)] if program else ["-m", f"raa_{service}"])], given, self.port
        )
        self.house.launch(service)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self.house.processes[service].process

    def is_alive_and_lacks(self, what: str) -> bool:
        assert self.process.poll() is None, self.house.logs()
        return get(f"{self.url}/healthz")[0] == 200 and what in missing(self.url)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.house.logs()
        return get(f"{self.url}/readyz")[0] == 200

    def memory_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def reads_what_is_published(self) -> int:
        """Publish what is no event on a topic it reads; returns how many dead letters there are then."""
        return asyncio.run(self._publish_garbage())

    async def _publish_garbage(self) -> int:
        bus = KafkaBus.from_settings(self.settings)
        await bus.start()
        try:
            topic = owned(self.settings.deployment, "reflection.done")
            letters = owned(self.settings.deployment, dead_letter_topic("memory"))
            before = sum((await bus.end_offsets([letters])).values())
            assert await bus.publish([Message(topic, b"default/t1", GARBAGE, ())]) == [None]
            async with asyncio.timeout(30):
                while (now := sum((await bus.end_offsets([letters])).values())) == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            return now
        finally:
            await bus.stop()


class Switched:
    """A server on a port of its own that a test turns on and off."""

    def __init__(self, start: Callable[..., AbstractContextManager[Server]], folder: Path) -> None:
        self._start, self._folder, self._running = start, folder, ExitStack()
        self.port = free_port()

    def on(self) -> None:
        self._running.enter_context(self._start(self._folder, port=self.port))

    def off(self) -> None:
        self._running.close()


@pytest.fixture
def switched(data_folder: Path) -> Iterator[Callable[..., Switched]]:
    made: list[Switched] = []

    def make(start: Callable[..., AbstractContextManager[Server]]) -> Switched:
        made.append(Switched(start, data_folder / f"server{len(made)}"))
        return made[-1]

    yield make
    for server in made:
        server.off()


def end(alone: Alone) -> None:
    alone.process.send_signal(signal.SIGTERM)
    assert alone.process.wait(30) == 0, alone.house.logs()


def test_a_service_waits_for_a_kafka_that_is_not_there_and_for_one_that_went(
    kafka: str, data_folder: Path, deployment: str, switched: Callable[..., Switched]
):
    broker = switched(start_kafka)
    alone = Alone(data_folder, "memory", kafka_bootstrap=f"127.0.0.1:{broker.port}", deployment=deployment)
    wait_until(lambda: alone.is_alive_and_lacks("bus"))
    assert "127.0.0.1" in missing(alone.url)["bus"]
    before = alone.memory_kb()
    wait_until(lambda: "store" not in missing(alone.url))
    assert get(f"{alone.url}/metrics")[0] == 200
    broker.on()
    wait_until(alone.is_ready, seconds=30)
    assert alone.reads_what_is_published() == 1
    broker.off()
    wait_until(lambda: alone.is_alive_and_lacks("bus"))
    broker.on()
    wait_until(alone.is_ready, seconds=30)
    assert alone.reads_what_is_published() == 2
    assert alone.memory_kb() - before < 40_000
    end(alone)


def test_a_service_waits_for_a_store_that_is_not_there_and_for_one_that_went(
    kafka: str, mongo: str, data_folder: Path, deployment: str, switched: Callable[..., Switched]
):
    store = switched(start_mongo)
    alone = Alone(
        data_folder, "memory", kafka_bootstrap=kafka, store="mongo",
        mongo_url=f"mongodb://127.0.0.1:{store.port}", deployment=deployment,
    )  # fmt: skip
    wait_until(lambda: alone.is_alive_and_lacks("store"))
    assert get(f"{alone.url}/v1/anything")[0] == 503
    store.on()
    wait_until(alone.is_ready, seconds=30)
    assert alone.reads_what_is_published() == 1
    store.off()
    wait_until(lambda: alone.is_alive_and_lacks("store"))
    store.on()
    wait_until(alone.is_ready, seconds=30)
    assert alone.reads_what_is_published() == 2
    end(alone)


def test_a_service_told_to_stop_while_it_waits_stops_at_once(kafka: str, data_folder: Path):
    alone = Alone(data_folder, "memory", kafka_bootstrap=f"127.0.0.1:{free_port()}")
    wait_until(lambda: alone.is_alive_and_lacks("bus"))
    end(alone)


def test_a_router_works_without_its_cache_from_the_start(
    kafka: str, redis_url: str, data_folder: Path, deployment: str, switched: Callable[..., Switched]
):
    cache = switched(start_redis)
    alone = Alone(
        data_folder, "router", kafka_bootstrap=kafka, deployment=deployment,
        redis_url=f"redis://127.0.0.1:{cache.port}/0",
    )  # fmt: skip
    wait_until(alone.is_ready, seconds=30)
    assert urlsplit(alone.url).port == alone.port
    end(alone)


def test_wrong_settings_end_the_start_at_once_also_while_something_is_away(kafka: str, data_folder: Path):
    alone = Alone(
        data_folder, "memory", kafka_bootstrap=f"127.0.0.1:{free_port()}", store="mongo", mongo_url="postgres://x"
    )
    assert alone.process.wait(20) == 2
    assert "RAA_MONGO_URL" in alone.house.logs()


def test_a_service_that_settles_nothing_while_its_lag_grows_ends_with_70(
    kafka: str, data_folder: Path, deployment: str
):
    stuck = Alone(data_folder, "memory", program=Path(__file__).with_name("stuck_service.py"),
                  kafka_bootstrap=kafka, deployment=deployment, drain_seconds="1")  # fmt: skip
    wait_until(stuck.is_ready, seconds=30)
    asyncio.run(_publish_until(stuck, ended=lambda: stuck.process.poll() is not None))
    assert stuck.process.wait(20) == 70, stuck.house.logs()
    assert "stuck" in stuck.house.logs()


async def _publish_until(alone: Alone, ended: Callable[[], bool]) -> None:
    bus = KafkaBus.from_settings(alone.settings)
    await bus.start()
    topic = owned(alone.settings.deployment, "reflection.done")
    try:
        async with asyncio.timeout(40):
            while not ended():
                await bus.publish([Message(topic, b"default/t1", GARBAGE, ())])
                await asyncio.sleep(0.1)
    finally:
        await bus.stop()


def test_a_stop_with_kafka_gone_and_work_in_the_lanes_stays_within_the_grace(
    kafka: str, data_folder: Path, deployment: str, switched: Callable[..., Switched]
):
    broker = switched(start_kafka)
    broker.on()
    alone = Alone(data_folder, "memory", kafka_bootstrap=f"127.0.0.1:{broker.port}", deployment=deployment,
                  drain_seconds="2")  # fmt: skip
    wait_until(alone.is_ready, seconds=30)
    assert alone.reads_what_is_published() == 1
    broker.off()
    wait_until(lambda: alone.is_alive_and_lacks("bus"))
    begun = time.monotonic()
    end(alone)
    assert time.monotonic() - begun < 2 + 15
