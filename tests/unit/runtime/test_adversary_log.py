"""The embedded log at its edges: pruning under way, the end of what is kept in memory, two groups at once."""

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus import embedded
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import TopicPartition
from raa_runtime.topics import topic_specs
from tests.unit.runtime.floor import Floor, until
from tests.unit.runtime.test_delivery import created

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bus(tmp_path: Path) -> Any:
    made = EmbeddedBus(tmp_path)
    await made.start()
    await made.apply_topics(topic_specs(Floor(tmp_path).settings))
    yield made
    await made.stop()


async def test_what_is_published_while_the_log_is_pruned_is_written_right_after(bus: Any, monkeypatch: Any):
    pruning, go_on, prune = threading.Event(), threading.Event(), bus._log.prune

    def slow() -> None:
        pruning.set()
        go_on.wait(5)
        prune()

    monkeypatch.setattr(bus._log, "prune", slow)
    bus._pruned_at -= 2 * embedded._PRUNE_SECONDS
    assert await bus.publish([created("t1")]) == [None]
    assert await asyncio.to_thread(pruning.wait, 5)
    late = asyncio.create_task(bus.publish([created("t2")]))
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.wait_for(late, 5) == [None]


async def test_a_reader_at_any_distance_from_the_end_reads_on_without_a_gap(bus: Any, monkeypatch: Any):
    monkeypatch.setattr(embedded, "_RECENT_BYTES", 20_000)
    seen: list[int] = []
    place = None
    for number in range(60):
        assert await bus.publish([created("t1", f"g{number}")]) == [None]
        place = place or next(TopicPartition(*found) for found, end in bus._log.ends.items() if end)
        if number % 7 == 0 or number == 59:
            while records := bus.fetch(place, len(seen), 5):
                seen += [record.offset for record in records]
                if number != 59 and len(seen) % 3:
                    break
    assert seen == list(range(60))


async def test_offsets_of_two_groups_outlive_a_disk_that_was_full_for_a_moment(bus: Any, monkeypatch: Any):
    write, fails = bus._log.write, [True, True]

    def full(messages: Any, commits: Any) -> Any:
        if fails:
            fails.pop()
            raise sqlite3.OperationalError("database or disk is full")
        return write(messages, commits)

    monkeypatch.setattr(bus._log, "write", full)
    monkeypatch.setattr(embedded, "_RETRY_SECONDS", 0.01)
    one, two = TopicPartition("task.created", 0), TopicPartition("task.created", 1)
    bus.commit("planner", {one: 3})
    bus.commit("reflector", {one: 1, two: 2})
    async with asyncio.timeout(5):
        while fails:
            await asyncio.sleep(0.005)
            bus.commit("planner", {two: 9})
    bus.commit("planner", {one: 4})
    await until(lambda: _is_at(bus, {one: 4, two: 9}))
    assert await bus.committed("reflector", ["task.created"]) == {one: 1, two: 2}


async def _is_at(bus: EmbeddedBus, offsets: dict[TopicPartition, int]) -> bool:
    return await bus.committed("planner", ["task.created"]) == offsets
