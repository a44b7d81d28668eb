"""How what has ended becomes a tombstone: many small ones by one statement, and a large one by a write of its own."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from raa_executor.handlers import RUN, STEP
from raa_planner.domain.task import TASK as PLANNED
from raa_reflector.domain.case import CASE
from raa_router.domain.chat import CHAT
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.known import SMALL_BYTES
from raa_runtime.service import Service
from raa_runtime.state.codec import Kind
from raa_runtime.state.port import KindSpec
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.unit_of_work import SHRINK_SECONDS
from raa_safety.domain.task import TASK as JUDGED
from tests.contract.test_store import write
from tests.unit.runtime.floor import COUNT, Floor, until
from tests.unit.runtime.test_aggregates_in_trouble import ME, document
from tests.unit.runtime.test_delivery import created

pytestmark = pytest.mark.anyio


async def _ended(floor: Floor, goal: str) -> None:
    await floor.publish([created("t1", goal, "the-first")])
    await floor.eventually("task.done", 1)


async def _tombstone(service: Service) -> bool:
    return bool((await document(service))["tombstone"])


async def test_what_is_small_shrinks_long_before_its_wake_and_without_being_written(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await _ended(floor, "work")
        before = await document(service)
        await until(lambda: _tombstone(service))
        after = await document(service)
        assert after["wake_at"] - floor.settings.tombstone_seconds < before["updated_at"] + SHRINK_SECONDS
        assert (after["version"], after["write_id"]) == (before["version"], before["write_id"])
        assert service._dispatcher.work.cache.look("count", "default/t1") is None
        assert not service._dispatcher.work.published._ids


async def test_what_is_large_is_written_anew_without_what_its_tombstone_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raa_runtime.unit_of_work.SHRINK_SECONDS", 0.05)
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await _ended(floor, "work" + "!" * SMALL_BYTES)
        before = await document(service)
        await until(lambda: _tombstone(service))
        assert (await document(service))["version"] > before["version"]


async def test_a_shrunk_aggregate_is_read_as_its_tombstone_and_knows_a_duplicate(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await _ended(floor, "work")
        await until(lambda: _tombstone(service))
        await floor.publish([created("t1", "work", "the-first"), created("t2", "work")])
        await floor.eventually("task.done", 2)
        await service.caught_up()
        found = await service.store(COUNT).find(ME, "default/t1")
        assert found is not None
        assert (found.outbox, found.state.goals) == ([], ["work"])
        assert len(await floor.records("task.done")) == 2


async def test_while_the_store_refuses_to_shrink_nothing_is_lost_and_the_wake_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def away(*_: Any) -> None:
        raise DependencyUnavailable("the disk is full")

    monkeypatch.setattr("raa_runtime.unit_of_work.SHRINK_SECONDS", 0.05)
    monkeypatch.setattr(SqliteStore, "shrink", away)
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await _ended(floor, "work")
        await until(lambda: _tombstone(service))


async def test_a_file_of_a_release_that_could_not_shrink_opens_and_keeps_its_documents(tmp_path: Path):
    path = tmp_path / "planner.sqlite"
    old = sqlite3.connect(path, isolation_level=None)
    old.execute(
        'CREATE TABLE "task" (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, part INT, version INT NOT NULL, '
        "write_id TEXT NOT NULL, wake_at REAL, owners TEXT NOT NULL, doc BLOB NOT NULL)"
    )
    for name, tombstone in (("gone", True), ("here", False)):
        sent = write(f"acme/{name}", wake_at=5.0, tombstone=tombstone)
        row = (sent.document["_id"], "acme", 0, 1, sent.document["write_id"], 5.0, "", sent.encoded)
        old.execute('INSERT INTO "task" VALUES (?, ?, ?, ?, ?, ?, ?, ?)', row)
    old.close()
    store = SqliteStore(path)
    await store.start([KindSpec("task")])
    assert await store.due("task", 10, None, 10) == ["acme/here"]
    assert await store.expired("task", 10, None, 10) == ["acme/gone"]
    await store.close()


@pytest.mark.parametrize("kind", [PLANNED, JUDGED, RUN, STEP, CASE, CHAT], ids=lambda kind: kind.state.__name__)
def test_a_tombstone_shrinks_to_itself(kind: Kind[Any]):
    once = kind.tombstone(kind.state())
    assert kind.tombstone(once) == once
