"""What only a real broker can do to us: foreign clients, batches nobody can read, refusals, and being away."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.kafka_connection import KafkaSecurity, KafkaTuning, faststream_broker
from raa_runtime.bus.port import Record, TopicPartition, UndecodableBatch
from raa_runtime.errors import DependencyUnavailable, PublishRefused, TransientError
from tests.backends.kafka import kafka as start_broker
from tests.backends.process import Server, free_port
from tests.contract.bus_client import Member, behind, group_of, join, message, settle, take, topic

pytestmark = pytest.mark.anyio
FAST = KafkaTuning(heartbeat=0.3)
IMPATIENT = KafkaTuning(heartbeat=0.3, session=2.0, call_timeout=2.0, publish_timeout=2.0)


@pytest.fixture
async def bus(kafka: str) -> AsyncIterator[KafkaBus]:
    made = KafkaBus(kafka, tuning=FAST)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def name(bus: KafkaBus, deployment: str) -> str:
    """A topic of one partition."""
    name = f"{deployment}.task.created"
    await bus.apply_topics([topic(name, 1)])
    return name


def produce(bootstrap: str, topic: str, values: list[bytes | None], **options: Any) -> None:
    """Publish as any librdkafka client does, kcat among them."""
    headers = options.pop("headers", None)
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, **options})
    for value in values:
        producer.produce(topic, value, headers=headers)
    assert producer.flush(20) == 0


async def append_raw(bootstrap: str, topic: str, batch: bytes) -> None:
    """Append a batch as it is, past every check a client makes."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    await client.force_metadata_update()
    leader = client.cluster.leader_for_partition(TopicPartition(topic, 0))
    request = ProduceRequest(transactional_id=None, required_acks=-1, timeout=5_000, topics=[(topic, [(0, batch)])])
    answer = await client.send(leader, request)
    await client.close()
    assert for_code(answer.topics[0][1][0][1]).errno == 0


def batch_with_broken_header(values: int) -> bytes:
    """A batch whose last record has a header whose name is not UTF-8; the broker does not look at it."""
    builder = DefaultRecordBatchBuilder(magic=2, compression_type=0, is_transactional=0, producer_id=-1,
                                        producer_epoch=-1, base_sequence=-1, batch_size=100_000)  # fmt: skip
    for number in range(values):
        builder.append(number, int(time.time() * 1000), b"k", b"v", [("HEADER", b"x")] if number == values - 1 else [])
    batch = bytearray(builder.build()).replace(b"HEADER", b"HE\xff\xfeER")
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_batches_of_every_codec_are_read(bus: KafkaBus, kafka: str, name: str, codec: str):
    values: list[bytes | None] = [b"%d" % number * 100 for number in range(20)]
    await asyncio.to_thread(produce, kafka, name, values, **{"compression.type": codec})
    records = await take(await join(bus, "g", [name]), 20)
    assert [record.value for record in records] == values


async def test_keyless_records_and_odd_headers_are_delivered_as_they_are(bus: KafkaBus, kafka: str, name: str):
    headers = [("ce_tenant", b"\xff\xfe"), ("ce_tenant", None), ("", b"")]
    await asyncio.to_thread(produce, kafka, name, [None, b""], headers=headers)
    records = await take(await join(bus, "g", [name]), 2)
    assert [(record.key, record.value or b"") for record in records] == [(None, b""), (None, b"")]
    assert records[0].headers == tuple(headers)


async def test_an_undecodable_record_is_named_skipped_and_costs_no_neighbour(bus: KafkaBus, kafka: str, name: str):
    other = f"{name}.other"
    await bus.apply_topics([topic(other, 1)])
    await bus.publish([message(name, "a", "before"), message(name, "a", "before")])
    await append_raw(kafka, name, batch_with_broken_header(3))
    await bus.publish([message(name, "a", "behind"), *(message(other, "a", "beside") for _ in range(5))])
    member = await join(bus, "g", [name, other])
    records = await take(member, 9)  # two before, five beside, and two of the batch itself
    assert [record.offset for record in records if record.topic == name] == [0, 1, 2, 3]
    with pytest.raises(UndecodableBatch) as caught:
        await member.subscription.poll(10, 5.0)
    bad = caught.value
    assert (bad.place, bad.offset, bad.next_offset) == (TopicPartition(name, 0), 4, 5)
    with pytest.raises(UndecodableBatch):
        await member.subscription.poll(10, 0.1)
    await member.subscription.skip(bad.place, bad.next_offset)
    rest = await take(member, 1)
    assert [record.value for record in rest] == [b"behind"]


async def test_an_observer_steps_over_what_cannot_be_decoded(bus: KafkaBus, kafka: str, name: str):
    await append_raw(kafka, name, batch_with_broken_header(1))
    await bus.publish([message(name, "a", "behind")])
    assert [record.value async for record in bus.read([name], from_beginning=True, follow=False)] == [b"behind"]


async def test_a_refused_batch_does_not_stop_the_partition_for_later_messages(bus: KafkaBus, deployment: str):
    small = f"{deployment}.small"
    await bus.apply_topics([topic(small, 1, largest=2_000)])
    for _ in range(3):
        verdicts = await bus.publish([message(small, "a", "x" * 5_000), message(small, "a", "ok")])
        assert [type(verdict) for verdict in verdicts] == [PublishRefused, type(None)]


async def test_messages_that_only_together_are_too_large_for_a_topic_go_one_by_one(bus: KafkaBus, deployment: str):
    small = f"{deployment}.small"
    await bus.apply_topics([topic(small, 1, largest=2_000)])
    batch = [message(small, "a", f"{number:04}" * 100) for number in range(20)]
    for _ in range(2):
        assert await bus.publish(batch) == [None] * 20
    values = [record.value async for record in bus.read([small], from_beginning=True, follow=False)]
    assert values == [entry.value for entry in batch] * 2


async def test_concurrent_publishers_survive_a_refusal_of_one_of_them(bus: KafkaBus, deployment: str, name: str):
    small = f"{deployment}.small"
    await bus.apply_topics([topic(small, 1, largest=2_000)])
    good = [bus.publish([message(name, f"k{number}", "x")] * 20) for number in range(20)]
    bad = bus.publish([message(small, "a", "x" * 5_000), message(name, "z", "x")])
    *verdicts, refused = await asyncio.gather(*good, bad)
    assert all(verdict is None for publisher in verdicts for verdict in publisher)
    assert [type(verdict) for verdict in refused] == [PublishRefused, type(None)]


async def test_a_thousand_publishers_that_miss_the_same_topic_ask_the_broker_for_it_once(bus: KafkaBus, name: str):
    asked = 0
    publisher = bus._publisher
    look = publisher._topics

    async def counted() -> dict[str, int]:
        nonlocal asked
        asked += 1
        return await look()

    publisher._topics = counted
    published = await asyncio.gather(*(bus.publish([message(name, f"key{number}", "x")]) for number in range(1_000)))

    assert published == [[None]] * 1_000
    assert asked == 1


async def test_a_faststream_service_of_a_user_reads_what_the_bus_publishes(bus: KafkaBus, kafka: str, name: str):
    broker = faststream_broker(kafka, KafkaSecurity())
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @broker.subscriber(name, group_id=group_of("theirs", name), auto_offset_reset="earliest")
    async def on_task_created(body: dict[str, Any]) -> None:
        await received.put(body)

    await bus.publish([message(name, "a", '{"goal": "add"}', ("content-type", b"application/json"))])
    async with broker:
        await broker.start()
        async with asyncio.timeout(30):
            assert await received.get() == {"goal": "add"}


async def test_a_bus_whose_broker_never_was_there_says_so_at_start():
    bus = KafkaBus(f"127.0.0.1:{free_port()}", tuning=IMPATIENT)
    with pytest.raises(DependencyUnavailable):
        await bus.start()


class Outage:
    """A broker of one's own, to take away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._server: Any = None
        self._buses: list[KafkaBus] = []
        self._running: Server | None = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the broker hang: connections stay open, nothing is answered."""
        assert self._running
        self._running.freeze()
        try:
            yield
        finally:
            self._running.thaw()

    def begin(self) -> None:
        self._server.__exit__(None, None, None)
        self._server = None

    def end(self) -> Server:
        self._server = start_broker(self._folder, port=self._port)
        server: Server = self._server.__enter__()
        self._running = server
        return server

    async def bus(self) -> KafkaBus:
        """Start the broker, and a bus on it that is stopped with the outage."""
        bus = KafkaBus(self.end().address, tuning=IMPATIENT)
        await bus.start()
        self._buses.append(bus)
        return bus

    async def close(self) -> None:
        for bus in self._buses:
            await bus.stop()
        if self._server:
            self.begin()


@pytest.fixture
async def outage(kafka: str, data_folder: Path) -> AsyncIterator[Outage]:  # kafka: or skip
    made = Outage(data_folder)
    yield made
    await made.close()


async def test_while_the_broker_is_away_every_call_ends_and_afterwards_all_goes_on(outage: Outage, deployment: str):
    bus = await outage.bus()
    name = f"{deployment}.task.created"
    await bus.apply_topics([topic(name, 1)])
    member = await join(bus, "g", [name])
    await settle(member, partitions=1)
    await bus.publish([message(name, "a", "1")])
    records = await take(member, 1)
    outage.begin()
    async with asyncio.timeout(12):
        with pytest.raises(DependencyUnavailable):
            await bus.ping()
        with pytest.raises(TransientError):
            await member.subscription.commit(behind(records))
        with pytest.raises(TransientError):
            await member.subscription.lag()
        [verdict] = await bus.publish([message(name, "a", "2")])
        assert isinstance(verdict, TransientError)
        assert await member.subscription.poll(1, 0.2) == []
    outage.end()
    async with asyncio.timeout(60):
        while await _commit_failed(member, records):
            await member.subscription.poll(1, 0.2)
        while [verdict := (await bus.publish([message(name, "a", "3")]))[0]] != [None]:
            assert isinstance(verdict, TransientError)
    values = [record.value async for record in bus.read([name], from_beginning=True, follow=False)]
    # the one in between is unknown: it may have come, before the last
    assert values[0] == b"1"
    assert values[-1] == b"3"


async def until_it_answers(bus: KafkaBus) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await bus.ping()
            except DependencyUnavailable:
                continue


async def _commit_failed(member: Member, records: list[Record]) -> bool:
    try:
        await member.subscription.commit(behind(records))
    except TransientError:
        return True
    return False


async def test_a_broker_that_hangs_is_noticed_by_the_ping_within_two_seconds(outage: Outage, deployment: str):
    bus = await outage.bus()
    name = f"{deployment}.task.created"
    await bus.apply_topics([topic(name, 1)])
    with outage.frozen():
        before = time.monotonic()
        with pytest.raises(DependencyUnavailable):
            await bus.ping()
        assert time.monotonic() - before < 3  # two, and a busy machine
        before = time.monotonic()
        [verdict] = await bus.publish([message(name, "a", "1")], patience=0.2)
        assert isinstance(verdict, DependencyUnavailable)
        assert time.monotonic() - before < IMPATIENT.publish_timeout
        [verdict] = await bus.publish([message(name, "a", "1")])
        assert isinstance(verdict, DependencyUnavailable)
    await until_it_answers(bus)


async def test_stopping_takes_at_most_ten_seconds_while_the_broker_is_away(outage: Outage, deployment: str):
    bus = await outage.bus()
    name = f"{deployment}.task.created"
    await bus.apply_topics([topic(name, 1)])
    member = await join(bus, "g", [name])
    await settle(member, partitions=1)
    outage.begin()
    await bus.publish([message(name, "a", "1")])
    before = time.monotonic()
    await bus.stop()
    assert time.monotonic() - before < 10


async def test_a_cancelled_poll_and_publish_pass_the_cancellation_on(bus: KafkaBus, name: str):
    member = await join(bus, "g", [name])
    polling = asyncio.create_task(member.subscription.poll(1, 30))
    publishing = asyncio.create_task(bus.publish([message(name, "a", "1")]))
    await asyncio.sleep(0)
    polling.cancel()
    publishing.cancel()
    for task in (polling, publishing):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_static_member_comes_back_to_its_partitions_and_disturbs_nobody(kafka: str, deployment: str):
    name = f"{deployment}.shared"
    buses = [KafkaBus(kafka, instance=instance, tuning=FAST) for instance in ("one", "two", "one")]
    await buses[0].start()
    await buses[0].apply_topics([topic(name, 4)])
    await buses[1].start()
    one, two = await join(buses[0], "g", [name]), await join(buses[1], "g", [name])
    await settle(one, two, partitions=4)
    told = len(two.told)
    await buses[0].stop()  # a static member does not say farewell, so that this is as good as its being killed
    await buses[2].start()
    begun = time.monotonic()
    again = await join(buses[2], "g", [name])
    await settle(again, two, partitions=4)
    assert time.monotonic() - begun < FAST.session / 2
    assert again.held == one.held
    assert len(two.told) == told
    await buses[2].publish([message(name, key, key) for key in "abcdefgh"])
    records: list[Record] = []
    async with asyncio.timeout(20):
        while len(records) < 8:
            for member in (again, two):
                fresh = await member.subscription.poll(500, 0.2)
                await member.subscription.commit(behind(fresh))
                records += fresh
    for bus in buses[1:]:
        await bus.stop()
