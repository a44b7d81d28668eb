"""B0: what one broker takes: 1 KB records, acks=all, 1 to 64 in a batch; written, then read. The ceiling of B1."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.arena import arena
from benchmarks.figures import percentiles, spread
from benchmarks.options import Options, say
from benchmarks.processes import cpu_seconds_of
from benchmarks.results import versions, write

SIZES = (1, 4, 16, 64)
# so many records per round, so that each size takes about a second
RECORDS = {1: 2_000, 4: 6_000, 16: 16_000, 64: 32_000}
PARTITIONS = 4
AT_ONCE = 8
VALUE = b"x" * 1_000
DURABILITY = "acks=all, one replica; the operating system writes to the disk when it likes, as Kafka does by default"
Run = dict[str, float]


async def measured(bootstrap: str, broker: int, topic: str, size: int, count: int) -> Run:
    """Write so many records in batches of this size, 8 batches under way at once, and read them again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0, max_batch_size=131_072)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await producer.start()
    await consumer.start()
    try:
        await write_all(producer, topic, 1, PARTITIONS)  # until every partition has its leader
        before, began = cpu_seconds_of([broker]), time.monotonic()
        waited = await write_all(producer, topic, size, count)
        written, wrote = cpu_seconds_of([broker]), time.monotonic()
        await read_all(consumer, topic, count + PARTITIONS)
        read, ended = cpu_seconds_of([broker]), time.monotonic()
    finally:
        await producer.stop()
        await consumer.stop()
    return {
        "write_broker_us": (written - before) / count * 1e6,
        "read_broker_us": (read - written) / count * 1e6,
        "written_per_second": count / (wrote - began),
        "read_per_second": count / (ended - wrote),
        "ack_p50_ms": waited["p50"],
        "ack_p99_ms": waited["p99"],
    }


async def write_all(producer: AIOKafkaProducer, topic: str, size: int, count: int) -> dict[str, float]:
    """Write; gives the percentiles of a batch's milliseconds to its acknowledgement."""
    waits: list[float] = []
    numbers = iter(range(0, count, size))

    async def writer() -> None:
        for number in numbers:
            batch = producer.create_batch()
            for _ in range(size):
                if batch.append(key=None, value=VALUE, timestamp=None) is None:
                    raise ValueError("the batch is full; raise max_batch_size")
            batch.close()
            began = time.monotonic()
            await (await producer.send_batch(batch, topic, partition=number // size % PARTITIONS))
            waits.append((time.monotonic() - began) * 1000)

    await asyncio.gather(*(writer() for _ in range(AT_ONCE)))
    return percentiles(waits)


async def read_all(consumer: AIOKafkaConsumer, topic: str, count: int) -> None:
    """Read all of it from the beginning."""
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    read = 0
    async with asyncio.timeout(60):
        while read < count:
            read += sum(map(len, (await consumer.getmany(timeout_ms=200)).values()))


def rows(runs: Mapping[int, Sequence[Run]]) -> list[dict[str, Any]]:
    """Sum up the rounds of each size."""
    return [
        {"batch": size, "records": RECORDS[size], "durability": DURABILITY}
        | {name: spread([run[name] for run in found], 1) for name in found[0]}
        for size, found in runs.items()
    ]


def main(options: Options) -> None:
    """Run it."""
    load = os.getloadavg()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic that was just made has no leader yet
    runs: dict[int, list[Run]] = {size: [] for size in SIZES}
    with arena() as field:
        server = field.server("kafka")
        for turn in range(-1, options.rounds):  # the first is for the broker's JVM
            for size in SIZES:
                count = options.share(RECORDS[size])
                run = asyncio.run(measured(server.address, server.process.pid, f"b0-{turn}-{size}", size, count))
                if turn >= 0:
                    runs[size].append(run)
                    say(f"B0 round {turn + 1}/{options.rounds} batches of {size}: "
                        f"{run['write_broker_us']:.0f} us broker CPU a record, {run['written_per_second']:.0f}/s, "
                        f"read {run['read_per_second']:.0f}/s")  # fmt: skip
    write("b0", rows(runs), [], load=load, rounds=options.rounds, quick=options.quick, versions=versions((), ["kafka"]))
