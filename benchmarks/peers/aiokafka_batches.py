"""Bare aiokafka: one process reads batches of 500 of every stage and sends without waiting for one at a time.

Durability: acks=all on one broker, offsets committed after the sends of a batch; at least once, no state, no lanes.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peers.client import pass_on, serve
from benchmarks.peers.environment import KAFKA, RUN, STAGES, topic
from benchmarks.peers.kafka_client import KafkaClient


async def stage(number: int, producer: AIOKafkaProducer) -> None:
    """Pass everything on, batch by batch."""
    consumer = AIOKafkaConsumer(
        topic(number),
        bootstrap_servers=KAFKA,
        group_id=topic(number),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=500,
    )
    await consumer.start()
    while True:
        sent: list[Awaitable[object]] = []
        for batch in (await consumer.getmany(timeout_ms=1_000)).values():
            for record in batch:
                body = json.dumps(pass_on(json.loads(record.value), number)).encode()
                sent.append(await producer.send(topic(number + 1), body, key=record.key))
        if sent:
            await asyncio.gather(*sent)
            await consumer.commit()


async def work() -> None:
    """Run all stages."""
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, client_id=RUN, acks="all", linger_ms=2, max_batch_size=65_536)
    await producer.start()
    await asyncio.gather(*(stage(number, producer) for number in range(STAGES)))


if __name__ == "__main__":
    if sys.argv[1] == "client":
        serve(KafkaClient())
    else:
        import uvloop

        uvloop.run(work())
