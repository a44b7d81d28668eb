"""Stopping: in which order, within which bounds, and what must not count as done."""

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus.port import Record, TopicPartition, UndecodableBatch
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.scope import scope_of
from raa_runtime.service import Service
from raa_runtime.state.aggregate import Aggregate
from raa_runtime.state.codec import decode
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.topics import topic_specs
from tests.unit.runtime.floor import COUNT, Count, Floor, until
from tests.unit.runtime.test_delivery import created, headers

pytestmark = pytest.mark.anyio


async def committed(floor: Floor) -> int:
    return sum((await floor.bus.committed("planner", ["task.created"])).values())


async def _names_work(service: Service) -> bool:
    return "work" in await service.missing()


async def _left(floor: Floor) -> bool:
    return not floor.bus._groups["planner"]


async def test_a_drain_with_the_store_away_ends_within_its_bounds_and_settles_nothing(tmp_path: Path):
    floor = Floor(tmp_path, drain_seconds=0.2)
    reached = asyncio.Event()
    await floor.bus.start()
    service = floor.build()
    await service.start()

    async def away(_: Any) -> Any:
        reached.set()
        raise DependencyUnavailable("no space left")

    service._db.commit = away  # type: ignore[method-assign, assignment]
    await floor.publish([created()])
    await asyncio.wait_for(reached.wait(), 5)
    await until(partial(_names_work, service))
    begun = time.monotonic()
    await service.drain()
    assert time.monotonic() - begun < 5
    assert await committed(floor) == 0
    await floor.bus.stop()

    after = Floor(tmp_path)
    async with after.running():
        await after.eventually("task.status", 1)


async def test_a_drain_gives_the_partitions_back_before_it_waits_for_what_nobody_may_repeat(tmp_path: Path):
    floor = Floor(tmp_path)
    started, gate = asyncio.Event(), asyncio.Event()

    async def work(_: Any) -> str:
        started.set()
        await gate.wait()
        return "sent"

    floor.effect, floor.work = "once", work
    await floor.bus.start()
    service = floor.build()
    await service.start()
    await floor.publish([created("t1", "work")])
    await asyncio.wait_for(started.wait(), 5)
    draining = asyncio.create_task(service.drain())
    await until(lambda: _left(floor))
    assert await committed(floor) == 1
    assert not draining.done()
    gate.set()
    await draining
    assert len(await floor.records("task.done")) == 1
    await floor.bus.stop()


@pytest.mark.parametrize("beside", [0, 1])
async def test_a_drain_with_the_bus_away_stores_what_an_unrepeatable_activity_came_to(tmp_path: Path, beside: int):
    floor = Floor(tmp_path, drain_seconds=5)
    started, gate = asyncio.Event(), asyncio.Event()
    answers = floor.bus.publish

    async def away(messages: Any) -> Any:
        return [DependencyUnavailable("the bus is away")] * len(messages)

    async def work(_: Any) -> str:
        floor.bus.publish = away
        started.set()
        await gate.wait()
        return "sent"

    floor.effect, floor.work = "once", work
    await floor.bus.start()
    service = floor.build()
    await service.start()
    service._dispatcher.work.bus = floor.bus
    await floor.publish([created("t1", "work"), *(created(f"u{number}", "x") for number in range(beside))])
    floor.bus.publish = away  # before the status of the task is out
    await asyncio.wait_for(started.wait(), 5)
    draining = asyncio.create_task(service.drain())
    gate.set()
    await draining
    document = await stored(service)
    assert document.activities == {}
    assert document.closed
    floor.bus.publish = answers
    assert await floor.records("task.done") == []
    await floor.bus.stop()

    after = Floor(tmp_path)
    async with after.running():
        [done] = await after.eventually("task.done", 1)
        assert [record.key for record in await after.records("task.status")][:1] == [done.key]
    assert json.loads(done.value or b"")["result"] == ["done", "sent"]
    assert after.calls == []


async def stored(service: Service) -> Aggregate[Count]:
    """Read task t1 as the drained service left it."""
    store = SqliteStore(service.settings.data / "planner.sqlite")
    await store.start([COUNT.spec])
    document = await store.find(scope_of("default/t1"), "count", "default/t1")
    await store.close()
    assert document is not None
    return decode(COUNT, document)


async def test_a_drain_may_be_asked_for_twice(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await asyncio.gather(service.drain(), service.drain())


async def test_a_service_that_never_started_can_be_drained(tmp_path: Path):
    await Floor(tmp_path).build().drain()


async def test_a_record_that_breaks_its_reader_is_a_dead_letter_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        address = service._dispatcher.intake.address

        def odd(record: Record) -> Any:
            if b"bad" in (record.value or b""):
                raise ZeroDivisionError
            return address(record)

        monkeypatch.setattr(service._dispatcher.intake, "address", odd)
        await floor.publish([created("t1", "bad"), created("t2")])
        [letter] = await floor.eventually("planner.dlq", 1)
        await floor.eventually("task.status", 1)
        await service.caught_up()
        assert service._consumer is not None
        assert service._consumer.in_flight == 0
    assert "ZeroDivisionError" in headers(letter)["dl_message"]


async def test_a_batch_nobody_can_decode_costs_one_dead_letter_that_names_it(tmp_path: Path):
    floor = Floor(tmp_path)
    await floor.bus.start()
    service = floor.build()
    await floor.bus.apply_topics(topic_specs(floor.settings))
    await floor.publish([created("t1"), created("t1"), created("t1")])
    [place] = [place for place, end in (await floor.bus.end_offsets(["task.created"])).items() if end]
    await service.start()
    assert service._consumer is not None
    subscription = service._consumer.subscription
    poll = subscription.poll
    skipped: list[tuple[Any, int]] = []
    skip = subscription.skip

    async def broken(most: int, seconds: float) -> list[Record]:
        if not skipped:
            raise UndecodableBatch(place, 0, 2, "of an unknown codec")
        return await poll(most, seconds)

    async def note(where: TopicPartition, offset: int) -> None:
        skipped.append((where, offset))
        await skip(where, offset)

    subscription.poll, subscription.skip = broken, note  # type: ignore[method-assign, assignment]
    [letter] = await floor.eventually("planner.dlq", 1)
    await service.caught_up()
    assert skipped == [(place, 2)]
    assert "offsets 0 to 1" in headers(letter)["dl_message"]
    await service.drain()
    await floor.bus.stop()


async def test_a_paused_member_that_lost_a_partition_reads_it_when_it_comes_back(tmp_path: Path):
    floor = Floor(tmp_path, max_in_flight=1)
    async with floor.running() as service:
        assert service._consumer is not None
        consumer = service._consumer
        places = consumer.subscription.assignment()
        consumer.subscription.pause(places)
        await consumer.revoked(places)
        await consumer.assigned(places)
        await floor.publish([created()])
        await floor.eventually("task.status", 1)


class Later:
    """A `Rebalance` that is told of its first share only when the test says so."""

    def __init__(self, told: Any) -> None:
        self.revoked, self._told, self._share = told.revoked, told.assigned, frozenset[TopicPartition]()

    async def assigned(self, places: frozenset[TopicPartition]) -> None:
        self._share = places

    async def tell(self) -> None:
        await self._told(self._share)


async def test_a_service_is_ready_only_when_it_knows_its_share_of_the_group(tmp_path: Path):
    floor = Floor(tmp_path)
    await floor.bus.start()
    subscribe, later = floor.bus.subscribe, list[Later]()

    async def slowly(group: str, topics: Any, rebalance: Any) -> Any:
        later.append(Later(rebalance))
        return await subscribe(group, topics, later[0])

    floor.bus.subscribe = slowly
    service = floor.build()
    await service.start()
    await until(partial(_lacks_only, service, "group"))
    await later[0].tell()
    assert await service.missing() == {}
    await service.drain()
    await floor.bus.stop()


async def _lacks_only(service: Service, what: str) -> bool:
    return set(await service.missing()) == {what}
