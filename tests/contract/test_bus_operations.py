"""What operators may ask of a bus, on the embedded one, on one that another process owns, and on a real broker."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.kafka_connection import KafkaTuning
from raa_runtime.bus.kafka_operations import KafkaOperations
from raa_runtime.bus.operations import Operations
from raa_runtime.bus.port import Bus, Record, TopicPartition
from raa_runtime.bus.socket_client import SocketBus
from raa_runtime.bus.socket_server import SocketServer
from raa_runtime.errors import Misconfigured
from tests.contract.bus_client import Member, behind, group_of, join, message, take, topic

pytestmark = pytest.mark.anyio
FAST = KafkaTuning(heartbeat=0.3)
KEYS = [f"task-{number}" for number in range(12)]


@contextlib.asynccontextmanager
async def opened(kind: str, folder: Path, server: str) -> AsyncIterator[tuple[Bus, Operations]]:
    if kind == "kafka":
        bus, operations = KafkaBus(server, tuning=FAST), KafkaOperations(server)
        await bus.start()
        await operations.start()
        yield bus, operations
        await operations.stop()
        await bus.stop()
        return
    owner = EmbeddedBus(folder)
    await owner.start()
    door = SocketServer(owner, folder, _info, owner)
    await door.start()
    yield owner, SocketBus(folder) if kind == "socket" else owner
    await door.stop()
    await owner.stop()


async def _info() -> dict[str, object]:
    return {}


@pytest.fixture(params=["embedded", "socket", "kafka"])
async def pair(request: pytest.FixtureRequest, data_folder: Path) -> AsyncIterator[tuple[Bus, Operations]]:
    server = request.getfixturevalue("kafka") if request.param == "kafka" else ""
    async with opened(request.param, data_folder, server) as made:
        yield made


@pytest.fixture
def name(deployment: str) -> str:
    return f"{deployment}.task.created"


async def test_the_time_of_the_oldest_record_behind_an_offset_is_found(pair: tuple[Bus, Operations], name: str):
    bus, operations = pair
    await bus.apply_topics([topic(name)])
    await bus.publish([message(name, "k", "one"), message(name, "k", "two")])
    (place,) = [place for place, end in (await bus.end_offsets([name])).items() if end]
    idle = TopicPartition(name, (place.partition + 1) % 3)
    before = datetime.now(UTC) - timedelta(minutes=1)
    times = await operations.times({place: 1})
    assert list(times) == [place]
    assert before < times[place] <= datetime.now(UTC) + timedelta(seconds=5)
    assert await operations.times({}) == {}
    if not isinstance(operations, KafkaOperations):  # it waits 5 s for what may still be on its way
        assert await operations.times({idle: 0}) == {}


async def test_groups_are_listed_with_their_members_and_stay_when_those_leave(pair: tuple[Bus, Operations], name: str):
    bus, operations = pair
    await bus.apply_topics([topic(name)])
    await bus.publish([message(name, key, "x") for key in KEYS])
    member = await join(bus, "g", [name])
    records = await take(member, len(KEYS))
    assert (await operations.groups())[group_of("g", name)] == 1
    await member.subscription.commit(behind(records))
    await member.subscription.close()
    assert (await operations.groups())[group_of("g", name)] == 0


@pytest.mark.parametrize("kind", ["embedded", "kafka"])
async def test_the_records_of_each_key_keep_their_order_when_a_topic_grows_between_them(
    kind: str, data_folder: Path, name: str, request: pytest.FixtureRequest
):
    server = request.getfixturevalue("kafka") if kind == "kafka" else ""
    seen: list[Record] = []
    async with opened(kind, data_folder, server) as (bus, operations):
        await bus.apply_topics([topic(name)])
        await bus.publish([message(name, key, str(number)) for number in range(5) for key in KEYS])
        member = await join(bus, "g", [name])
        seen += await take(member, 5 * len(KEYS))
        await member.subscription.commit(behind(seen))
        await member.subscription.close()
        await operations.grow({name: 7})
    # whoever reads or writes starts again: a producer that knows the former count would place keys by it
    async with opened(kind, data_folder, server) as (bus, _):
        assert (await bus.topics())[name] == 7
        members: list[Member] = [await join(bus, "g", [name])]
        await bus.publish([message(name, key, str(number)) for number in range(5, 10) for key in KEYS])
        seen += await take(members[0], 5 * len(KEYS))
    by_key: dict[bytes, list[int]] = {}
    for record in seen:
        by_key.setdefault(record.key or b"", []).append(int(record.value or b""))
    assert set(map(tuple, by_key.values())) == {tuple(range(10))}
    moved = {record.key for record in seen if record.partition >= 3}
    assert moved, "no key moved, so that nothing was shown"


async def test_an_embedded_topic_does_not_grow_under_a_member(data_folder: Path):
    async with opened("embedded", data_folder, "") as (bus, operations):
        await bus.apply_topics([topic("task.created")])
        await join(bus, "g", ["task.created"])
        with pytest.raises(Misconfigured, match="stop what reads"):
            await operations.grow({"task.created": 7})
        assert (await bus.topics())["task.created"] == 3
        with pytest.raises(Misconfigured, match="stop it before"):
            await SocketBus(data_folder).grow({"task.created": 7})
