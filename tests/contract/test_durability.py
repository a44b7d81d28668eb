"""Which safety the stores and the bus are asked for, and what is said at the start when the servers give less."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.kafka_admin import KafkaAdmin, _new_topic
from raa_runtime.durability import weaknesses
from raa_runtime.errors import Misconfigured
from raa_runtime.state.mongo import MongoStore
from raa_runtime.state.sqlite import SqliteStore, connect
from tests.contract.bus_client import topic
from tests.contract.test_store import KINDS

pytestmark = pytest.mark.anyio


async def test_every_write_to_mongo_asks_for_a_majority_and_its_disks_whatever_the_url_says(deployment: str):
    store = MongoStore("mongodb://127.0.0.1:1/?w=1&journal=false", deployment)
    assert store._database.write_concern.document == {"w": "majority", "j": True}
    await store.close()


async def test_a_single_mongo_is_reported_and_used(mongo: str, deployment: str):
    store = MongoStore(mongo, deployment)
    await store.start(KINDS)
    [told] = await weaknesses(store, topics=[])
    assert "1 of the 3 members" in told
    await store.close()


async def test_a_single_broker_is_reported_and_used(kafka: str, deployment: str):
    bus = KafkaBus(kafka)
    await bus.start()
    name = f"{deployment}.task.created"
    await bus.apply_topics([topic(name)])
    [told] = await weaknesses(bus, topics=[name])
    assert "1 of the 3 brokers" in told
    async with asyncio.timeout(10):  # the broker may know the topic a moment before its settings
        while await bus._admin._least_in_sync([name]) != {name: 1}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await bus.stop()


class ThreeBrokers:
    """What a cluster of three answers."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    async def describe_cluster(self) -> Any:
        return {"brokers": [1, 2, 3]}

    async def describe_topics(self) -> Any:
        return [{"topic": "t", "partitions": [{"replicas": list(range(self._replicas))}]}]


@pytest.mark.parametrize(
    ("replicas", "least", "expected"),
    [(3, 2, []), (1, 1, ["RAA_KAFKA_REPLICATION=3"]), (3, 1, ["min.insync.replicas=2"]), (2, 2, ["REPLICATION"])],
)
async def test_topics_that_three_brokers_keep_less_safely_than_they_could_are_named(
    monkeypatch: pytest.MonkeyPatch, replicas: int, least: int, expected: list[str]
):
    async def in_sync(*_: Any) -> dict[str, int]:
        return {"t": least}

    monkeypatch.setattr(KafkaAdmin, "_least_in_sync", in_sync)
    bus = KafkaBus("127.0.0.1:1")
    bus._admin._connected = ThreeBrokers(replicas)
    told = await bus.weaknesses(["t", "not there"])
    assert len(told) == len(expected)
    assert all(part in text for part, text in zip(expected, told, strict=True))


def test_topics_of_three_replicas_are_created_so_that_two_must_confirm():
    spec = topic("t")
    assert "min.insync.replicas" not in _new_topic(spec).topic_configs
    three = type(spec)("t", 1, 3, spec.retention, compacted=False, max_message_bytes=1)
    assert _new_topic(three).topic_configs["min.insync.replicas"] == "2"


async def test_sqlite_syncs_every_commit_on_both_of_its_connections(tmp_path: Path):
    store = SqliteStore(tmp_path / "db.sqlite")
    await store.start(KINDS)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await store.close()


def test_a_sqlite_that_does_not_take_the_setting_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Careless(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            return super().execute("SELECT 1" if "synchronous=" in sql else sql, *values)

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            super().execute("PRAGMA synchronous=OFF")

    opened = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: opened(*args, factory=Careless, **options))
    with pytest.raises(Misconfigured, match="synchronous=FULL"):
        connect(tmp_path / "db.sqlite")
