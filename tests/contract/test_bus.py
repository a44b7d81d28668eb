"""What every bus promises, on the embedded one, the simulated one and a real broker."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPlace
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.kafka_connection import KafkaTuning
from raa_runtime.bus.placement import partition_of
from raa_runtime.bus.port import Bus, TopicPartition
from raa_runtime.errors import DependencyUnavailable, PublishRefused, TransientError
from raa_runtime.simulated.broker import Broker
from raa_runtime.simulated.bus import SimulatedBus
from raa_runtime.simulated.chance import Chance
from raa_runtime.topics import topic_specs
from raa_schemas.topics import MAX_MESSAGE_BYTES
from tests.contract.bus_client import Member, behind, group_of, join, message, settle, take, topic
from tests.unit.runtime.floor import Floor

pytestmark = pytest.mark.anyio
FAST = KafkaTuning(heartbeat=0.3)


@pytest.fixture(params=["embedded", "simulated", "kafka"])
async def bus(request: pytest.FixtureRequest, data_folder: Path) -> AsyncIterator[Bus]:
    made = _make(request, data_folder)
    await made.start()
    yield made
    await made.stop()


def _make(request: pytest.FixtureRequest, data_folder: Path) -> Bus:
    if request.param == "embedded":
        return EmbeddedBus(data_folder)
    if request.param == "simulated":
        return SimulatedBus(Broker(Chance(0)))
    return KafkaBus(request.getfixturevalue("kafka"), tuning=FAST)


@pytest.fixture
async def name(bus: Bus, deployment: str) -> str:
    """A topic of three partitions."""
    name = f"{deployment}.task.created"
    await bus.apply_topics([topic(name)])
    return name


async def test_a_record_comes_back_as_it_was_published(bus: Bus, name: str):
    [verdict] = await bus.publish([message(name, "t1", '{"goal": "Grüße"}', ("ce_id", b"1"), ("raw", b"\xff\x00"))])
    assert verdict is None
    [record] = await take(await join(bus, "g", [name]), 1)
    assert (record.topic, record.offset, record.key) == (name, 0, b"t1")
    assert record.value == '{"goal": "Grüße"}'.encode()
    assert dict(record.headers) == {"ce_id": b"1", "raw": b"\xff\x00"}
    assert record.timestamp.tzinfo is not None


async def test_patience_that_is_long_enough_changes_nothing(bus: Bus, name: str):
    assert await bus.publish([message(name, "a", "1"), message(name, "b", "2")], patience=30.0) == [None, None]
    assert len([record async for record in bus.read([name], from_beginning=True, follow=False)]) == 2


async def test_a_key_is_placed_where_java_clients_place_it(bus: Bus, name: str):
    await bus.publish([message(name, f"task-{number}", "x") for number in range(30)])
    records = await take(await join(bus, "g", [name]), 30)
    assert all(record.partition == partition_of(record.key or b"", 3) for record in records)


async def test_many_publishers_at_once_keep_the_order_of_every_key(bus: Bus, name: str):
    async def publish(key: str) -> None:
        verdicts = await bus.publish([message(name, key, f"{number}" * 50) for number in range(100)])
        assert verdicts == [None] * 100

    await asyncio.gather(*(publish(f"k{number}") for number in range(40)))
    values = defaultdict(list)
    for record in await take(await join(bus, "g", [name]), 4_000):
        values[record.key].append(record.value)
    assert len(values) == 40
    assert all(got == [(f"{number}" * 50).encode() for number in range(100)] for got in values.values())


async def test_an_unknown_topic_is_refused_and_harms_no_neighbour(bus: Bus, name: str):
    wrong = f"{name}.missing"
    verdicts = await bus.publish([message(name, "a", "1"), message(wrong, "a", "2"), message(name, "a", "3")])
    assert [type(verdict) for verdict in verdicts] == [type(None), PublishRefused, type(None)]
    assert wrong in str(verdicts[1])
    assert wrong not in await bus.topics()
    assert [record.value for record in await take(await join(bus, "g", [name]), 2)] == [b"1", b"3"]


async def test_a_message_that_is_too_large_is_refused_and_what_follows_is_not(bus: Bus, name: str):
    batch = [message(name, "a", "1"), message(name, "a", "x" * MAX_MESSAGE_BYTES), message(name, "a", "3")]
    for _ in range(2):
        verdicts = await bus.publish(batch)
        assert [type(verdict) for verdict in verdicts] == [type(None), PublishRefused, type(None)]
    records = await take(await join(bus, "g", [name]), 4)
    assert [record.value for record in records] == [b"1", b"3", b"1", b"3"]


async def test_a_successor_goes_on_at_what_was_committed(bus: Bus, name: str):
    await bus.publish([message(name, "a", str(number)) for number in range(5)])
    first = await join(bus, "g", [name])
    records = await take(first, 5)
    await first.subscription.commit(behind(records[:2]))
    await first.subscription.close()
    assert [record.value for record in await take(await join(bus, "g", [name]), 3)] == [b"2", b"3", b"4"]


async def test_without_a_commit_everything_is_delivered_again(bus: Bus, name: str):
    await bus.publish([message(name, "a", "1"), message(name, "b", "2")])
    first = await join(bus, "g", [name])
    await take(first, 2)
    await first.subscription.close()
    await take(await join(bus, "g", [name]), 2)


async def test_what_is_committed_while_partitions_are_taken_away_counts(bus: Bus, name: str):
    await bus.publish([message(name, f"k{number}", "x") for number in range(30)])
    first = await join(bus, "g", [name])
    done = behind(await take(first, 30))
    first.on_revoked = lambda: first.subscription.commit(done)
    second = await join(bus, "g", [name])
    await settle(first, second, partitions=3)
    assert await bus.committed(group_of("g", name), [name]) == done


async def test_one_call_publishes_thousands_of_messages(bus: Bus, name: str):
    batch = [message(name, f"k{number % 7}", f"{number:05}" * 200) for number in range(3_000)]
    assert await bus.publish(batch) == [None] * 3_000
    values = defaultdict(list)
    for record in await take(await join(bus, "g", [name]), 3_000):
        values[record.key].append(record.value)
    assert all(got == sorted(got, key=lambda value: value or b"") for got in values.values())


async def test_groups_do_not_see_each_other(bus: Bus, name: str):
    await bus.publish([message(name, "a", "1")])
    planner, reflector = await join(bus, "planner", [name]), await join(bus, "reflector", [name])
    await planner.subscription.commit(behind(await take(planner, 1)))
    await take(reflector, 1)
    assert await bus.committed(group_of("reflector", name), [name]) == {}
    assert list((await bus.committed(group_of("planner", name), [name])).values()) == [1]


async def test_two_members_share_the_partitions_and_the_first_is_told_what_it_lost(bus: Bus, name: str):
    first = await join(bus, "g", [name])
    await settle(first, partitions=3)
    second = await join(bus, "g", [name])
    await settle(first, second, partitions=3)
    everything = frozenset(TopicPartition(name, part) for part in range(3))
    assert ("revoked", everything) in first.told
    assert first.subscription.assignment() == first.held
    assert second.subscription.assignment() == second.held
    await first.subscription.close()
    await settle(second, partitions=3)


async def test_a_commit_for_a_partition_that_was_taken_away_fails_and_changes_nothing(bus: Bus, name: str):
    await bus.publish([message(name, f"k{number}", "x") for number in range(30)])
    first = await join(bus, "g", [name])
    records = await take(first, 30)
    second = await join(bus, "g", [name])
    async with asyncio.timeout(30):
        while len(second.held) + len(first.held) != 3 or not second.held:
            await first.subscription.poll(100, 0.05)
            await second.subscription.poll(1, 0.05)
    lost = {place: offset for place, offset in behind(records).items() if place in second.held}
    with pytest.raises(TransientError):
        await first.subscription.commit(lost)
    assert await bus.committed(group_of("g", name), [name]) == {}


async def test_a_paused_partition_stays_paused_over_a_rebalance_and_comes_back_on_resume(bus: Bus, name: str):
    first = await join(bus, "g", [name])
    await settle(first, partitions=3)
    everything = [TopicPartition(name, part) for part in range(3)]
    first.subscription.pause(everything)
    second = await join(bus, "g", [name])
    await settle(first, second, partitions=3)
    await second.subscription.close()
    await settle(first, partitions=3)
    await bus.publish([message(name, f"k{number}", "x") for number in range(12)])
    assert await first.subscription.poll(100, 0.7) == []
    first.subscription.resume(everything)
    await take(first, 12)


async def test_skip_goes_on_at_the_offset_it_names(bus: Bus, name: str):
    await bus.publish([message(name, "a", str(number)) for number in range(5)])
    member = await join(bus, "g", [name])
    first = (await take(member, 5))[0]
    await member.subscription.skip(first.place, 3)
    assert [record.value for record in await take(member, 2)] == [b"3", b"4"]


async def test_lag_counts_what_lies_behind_the_committed_offset(bus: Bus, name: str):
    await bus.publish([message(name, "a", str(number)) for number in range(5)])
    member = await join(bus, "g", [name])
    records = await take(member, 5)
    assert sum((await member.subscription.lag()).values()) == 5
    await member.subscription.commit(behind(records[:2]))
    lag = await member.subscription.lag()
    assert lag[records[0].place] == 3
    assert len(lag) == 3


async def emptied(bus: Bus, name: str, kafka: Any) -> None:
    """Let retention take all there is."""
    if isinstance(bus, EmbeddedBus):
        bus._log.prune()
        return
    if isinstance(bus, SimulatedBus):
        bus._broker.expire(name)
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    places = {KafkaPlace(*place): RecordsToDelete(end) for place, end in (await bus.end_offsets([name])).items() if end}
    await admin.delete_records(places)
    await admin.close()


@pytest.mark.parametrize("committed", [True, False])
async def test_what_retention_took_is_no_lag_whether_or_not_it_was_committed(
    bus: Bus, deployment: str, request: pytest.FixtureRequest, *, committed: bool
):
    name = f"{deployment}.task.created"
    gone = replace(topic(name, 1), retention=timedelta(seconds=-1 if isinstance(bus, EmbeddedBus) else 60))
    await bus.apply_topics([gone])
    await bus.publish([message(name, "a", str(number)) for number in range(5)])
    if committed:
        first = await join(bus, "g", [name])
        await first.subscription.commit(behind((await take(first, 5))[:2]))
        await first.subscription.close()
    await emptied(bus, name, request.getfixturevalue("kafka") if isinstance(bus, KafkaBus) else None)
    member = await join(bus, "g", [name])
    async with asyncio.timeout(20):
        await settle(member, partitions=1)
        while any((await member.subscription.lag()).values()):
            # the embedded bus still has in memory what is gone from its disk
            await member.subscription.commit(behind(await member.subscription.poll(10, 0.1)))


async def test_a_service_has_caught_up_with_a_topic_that_retention_emptied(
    bus: Bus, deployment: str, tmp_path: Path, request: pytest.FixtureRequest
):
    floor = Floor(tmp_path, deployment=deployment)
    floor.bus = bus
    name = f"{deployment}.task.created"
    gone = replace(topic(name, 2), retention=timedelta(seconds=-1 if isinstance(bus, EmbeddedBus) else 60))
    await bus.apply_topics([gone, *(spec for spec in topic_specs(floor.settings) if spec.name != name)])
    await bus.publish([message(name, "a", str(number)) for number in range(5)])
    await emptied(bus, name, request.getfixturevalue("kafka") if isinstance(bus, KafkaBus) else None)
    service = floor.build()
    await service.start()
    try:
        async with asyncio.timeout(20):
            while not service._consumer.subscription.assignment():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await service.caught_up()
    finally:
        await service.drain()


async def test_joining_a_topic_that_does_not_exist_says_so(bus: Bus, name: str):
    with pytest.raises(DependencyUnavailable, match="raa topics apply"):
        await bus.subscribe(group_of("g", name), [name, f"{name}.missing"], Member())


async def test_topics_are_created_once(bus: Bus, deployment: str):
    specs = [topic(f"{deployment}.a", 2), topic(f"{deployment}.b", 4)]
    assert await bus.apply_topics(specs[:1]) == [f"{deployment}.a"]
    assert await bus.apply_topics(specs) == [f"{deployment}.b"]
    assert await bus.apply_topics(specs) == []
    found = await bus.topics()
    assert (found[f"{deployment}.a"], found[f"{deployment}.b"]) == (2, 4)


async def test_end_offsets_leave_out_topics_that_do_not_exist(bus: Bus, name: str):
    await bus.publish([message(name, "a", "1"), message(name, "a", "2")])
    ends = await bus.end_offsets([name, f"{name}.missing"])
    assert {place.topic for place in ends} == {name}
    assert sorted(ends.values()) == [0, 0, 2]


async def test_an_observer_reads_from_the_beginning_to_the_newest_and_stops(bus: Bus, name: str):
    await bus.publish([message(name, f"k{number}", str(number)) for number in range(20)])
    values = [record.value async for record in bus.read([name], from_beginning=True, follow=False)]
    assert set(values) == {str(number).encode() for number in range(20)}
    assert len(values) == 20
    assert [record async for record in bus.read([name], from_beginning=False, follow=False)] == []


async def test_an_observer_that_follows_sees_what_comes(bus: Bus, name: str):
    await bus.publish([message(name, "a", "old")])
    seen: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def follow() -> None:
        async for record in bus.read([name], from_beginning=True, follow=True):
            await seen.put(record.value)

    following = asyncio.create_task(follow())
    async with asyncio.timeout(30):
        assert await seen.get() == b"old"
        await bus.publish([message(name, "a", "new")])
        assert await seen.get() == b"new"
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_a_bus_that_is_there_answers_the_ping(bus: Bus):
    await bus.ping()
