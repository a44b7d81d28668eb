"""What the embedded log keeps, drops, and survives."""

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus.embedded import EmbeddedBus, Recent
from raa_runtime.bus.log import Log
from raa_runtime.bus.port import Message, Record, TopicPartition, TopicSpec
from raa_runtime.clock import SystemClock
from raa_runtime.errors import DependencyUnavailable, TransientError
from tests.unit.runtime.floor import until

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


def spec(name: str, *, compacted: bool = False, retention: timedelta = DAY) -> TopicSpec:
    return TopicSpec(name, 1, 1, retention, compacted, 1_000_000)


def message(topic: str, key: str, value: str = "x") -> Message:
    return Message(topic, key.encode(), value.encode(), (("h", b"1"),))


class Deaf:
    """A `Rebalance` that does nothing."""

    async def revoked(self, places: Any) -> None: ...

    async def assigned(self, places: Any) -> None: ...


def test_a_compacted_topic_keeps_the_newest_of_each_key_and_all_without_one(tmp_path: Path):
    log = Log(tmp_path / "bus.sqlite")
    log.create([spec("t", compacted=True)])
    log.write(
        [
            message("t", key, value)
            for key, value in (("a", "1"), ("b", "1"), ("a", "2"), ("", "1"), ("", "2"), ("b", "2"))
        ],
        {},
    )
    log.prune()
    kept = [(record.key, record.value) for record in log.read(TopicPartition("t", 0), 0, 100)]
    assert kept == [(b"a", b"2"), (b"", b"1"), (b"", b"2"), (b"b", b"2")]
    log.close()


def test_a_long_compacted_topic_is_compacted_in_a_moment(tmp_path: Path):
    log = Log(tmp_path / "bus.sqlite")
    log.create([spec("t", compacted=True)])
    log.write([message("t", f"k{number % 20_000}") for number in range(60_000)], {})
    begun = SystemClock().monotonic()
    log.prune()
    assert SystemClock().monotonic() - begun < 10  # comparing each with each takes minutes
    assert len(log.read(TopicPartition("t", 0), 0, 100_000)) == 20_000
    log.close()


def test_what_is_past_its_retention_goes_and_offsets_go_on(tmp_path: Path):
    log = Log(tmp_path / "bus.sqlite")
    log.create([spec("t", retention=timedelta(seconds=-1))])
    log.write([message("t", "a"), message("t", "b")], {})
    log.prune()
    assert log.read(TopicPartition("t", 0), 0, 10) == []
    [record] = log.write([message("t", "c")], {})
    assert record.offset == 2
    log.close()


def test_one_read_takes_no_more_than_some_megabytes(tmp_path: Path):
    log = Log(tmp_path / "bus.sqlite")
    log.create([spec("t")])
    log.write([message("t", "a", "x" * 900_000) for _ in range(12)], {})
    assert len(log.read(TopicPartition("t", 0), 0, 1_000)) == 5
    log.close()


def test_what_is_kept_in_memory_counts_its_headers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raa_runtime.bus.embedded._RECENT_BYTES", 20_000)
    recent, now = Recent(), SystemClock().now()
    for number in range(100):
        recent.add([Record("t", 0, number, now, b"k", b"", tuple((f"h{at}", b"x") for at in range(10)))])
    assert recent.read(TopicPartition("t", 0), 91, 10) is not None
    assert recent.read(TopicPartition("t", 0), 80, 10) is None


async def test_a_member_steps_over_records_that_were_all_pruned(tmp_path: Path):
    log = Log(tmp_path / "bus.sqlite")
    log.create([spec("t", retention=timedelta(seconds=-1))])
    log.write([message("t", "a"), message("t", "b")], {})
    log.close()
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    member = await bus.subscribe("g", ["t"], Deaf())
    assert await member.poll(10, 0.01) == []
    assert await bus.committed("g", ["t"]) == {TopicPartition("t", 0): 2}
    assert set((await member.lag()).values()) == {0}
    await bus.stop()


async def test_creating_topics_never_shows_an_end_of_zero_meanwhile(tmp_path: Path):
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics([spec("t")])
    await bus.publish([message("t", "a")])
    place, seen = TopicPartition("t", 0), set()
    creating = asyncio.create_task(bus.apply_topics([spec(f"more{number}") for number in range(300)]))
    while not creating.done():
        seen.add((await bus.end_offsets(["t"]))[place])
        await asyncio.sleep(0)
    assert seen == {1}
    await bus.stop()


async def test_after_a_full_disk_the_bus_goes_on_with_nothing_lost_and_no_gap(tmp_path: Path):
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics([spec("t")])
    await bus.publish([message("t", "a")])
    member = await bus.subscribe("g", ["t"], Deaf())
    await member.poll(10, 0.1)
    writer = bus._log._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}")
    [verdict] = await bus.publish([message("t", "b", "x" * 500_000)])
    assert isinstance(verdict, TransientError)
    assert "full" in str(verdict)
    writer.execute("PRAGMA max_page_count=1000000")
    assert await bus.publish([message("t", "c")]) == [None]
    [record] = await member.poll(10, 1)
    assert (record.offset, record.key) == (1, b"c")
    await bus.stop()


def test_a_process_that_dies_within_a_ping_leaves_a_log_that_opens(tmp_path: Path):
    log = Log(tmp_path / "bus.sqlite")
    log.create([spec("t")])
    log.write([message("t", "a")], {"g": {TopicPartition("t", 0): 1}})
    dead = sqlite3.connect(tmp_path / "bus.sqlite")
    dead.execute("INSERT INTO offsets VALUES ('', 0, 0, 1)")  # what an earlier release left behind
    dead.commit()
    again = Log(tmp_path / "bus.sqlite")
    assert again.offsets == {"g": {TopicPartition("t", 0): 1}}
    again.ping()
    assert dead.execute("SELECT count(*) FROM offsets").fetchone() == (1,)
    again._writer.set_authorizer(lambda what, *_: sqlite3.SQLITE_DENY if what == sqlite3.SQLITE_DELETE else 0)
    with pytest.raises(sqlite3.DatabaseError):
        again.ping()
    again._writer.set_authorizer(None)
    assert dead.execute("SELECT count(*) FROM offsets WHERE grp = ''").fetchone() == (0,)
    dead.close()
    again.close()
    log.close()


async def test_offsets_that_could_not_be_stored_are_stored_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raa_runtime.bus.embedded._RETRY_SECONDS", 0.01)
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics([spec("t")])
    await bus.publish([message("t", "a")])
    write, failures = bus._log.write, [1, 1]

    def full(*given: Any) -> Any:
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("database or disk is full")
        return write(*given)

    monkeypatch.setattr(bus._log, "write", full)
    place = TopicPartition("t", 0)
    bus.commit("g", {place: 1})

    async def stored() -> bool:
        return await bus.committed("g", ["t"]) == {place: 1}

    await until(stored)
    await bus.stop()


async def test_two_members_that_join_at_once_never_hold_one_partition_both(tmp_path: Path):
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics([TopicSpec("t", 6, 1, DAY, compacted=False, max_message_bytes=1_000_000)])
    members = await asyncio.gather(*(bus.subscribe("g", ["t"], Deaf()) for _ in range(3)))
    held = [place for member in members for place in member.assignment()]
    assert len(held) == len(set(held)) == 6
    await bus.stop()


async def test_a_publisher_that_waits_no_longer_does_not_know_and_its_record_may_still_come(tmp_path: Path):
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics([spec("t")])
    busy = sqlite3.connect(tmp_path / "bus.sqlite", isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    [verdict] = await bus.publish([message("t", "a")], patience=0.05)
    assert isinstance(verdict, TransientError)
    busy.execute("ROLLBACK")
    busy.close()
    assert await bus.publish([message("t", "b")]) == [None]
    assert [record.key async for record in bus.read(["t"], from_beginning=True, follow=False)] == [b"a", b"b"]
    await bus.stop()


async def test_a_record_that_the_writer_appends_while_a_member_looks_is_not_stepped_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics([spec("t")])
    member = await bus.subscribe("g", ["t"], Deaf())
    fetch = bus.fetch

    def found_nothing_a_moment_too_early(place: TopicPartition, offset: int, limit: int) -> list[Record]:
        found = fetch(place, offset, limit)
        if not found:
            bus._log.write([message("t", "a")], {})  # as the writer's thread may, between any two instructions
            monkeypatch.undo()
        return found

    monkeypatch.setattr(bus, "fetch", found_nothing_a_moment_too_early)
    taken = [record.key for _ in range(2) for record in await member.poll(10, 0.01)]
    assert taken == [b"a"]
    await member.close()
    await bus.stop()


async def test_a_place_that_cannot_be_read_costs_nothing_that_was_read_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics([spec("t"), spec("u")])
    member = await bus.subscribe("g", ["t", "u"], Deaf())
    await bus.publish([message("t", "a"), message("u", "b")])
    fetch = bus.fetch

    def broken_once(place: TopicPartition, offset: int, limit: int) -> list[Record]:
        if place.topic == "u":
            monkeypatch.undo()
            raise DependencyUnavailable("disk I/O error")
        return fetch(place, offset, limit)

    monkeypatch.setattr(bus, "fetch", broken_once)
    with pytest.raises(DependencyUnavailable):
        await member.poll(10, 0.01)
    assert [record.key for record in await member.poll(10, 0.01)] == [b"a", b"b"]
    await member.close()
    await bus.stop()
