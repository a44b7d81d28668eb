"""The same three stages, each a consumer that waits for one record of a partition before it takes the next.

python -m benchmarks.serial client|worker
"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peers.client import pass_on, serve
from benchmarks.peers.environment import KAFKA, PARTITIONS, WAIT_SECONDS, topic
from benchmarks.peers.kafka_client import KafkaClient
from raa_runtime.main import run_loop

STAGES = 3


async def consume(stage: int, producer: AIOKafkaProducer) -> None:
    """Be one member of a stage's group: as many members as partitions, the most such a group can use."""
    consumer = AIOKafkaConsumer(
        topic(stage),
        bootstrap_servers=KAFKA,
        group_id=topic(stage),
        auto_offset_reset="earliest",
        enable_auto_commit=True,
    )
    await consumer.start()
    async for record in consumer:
        await asyncio.sleep(WAIT_SECONDS)
        body = json.dumps(pass_on(json.loads(record.value), stage)).encode()
        await producer.send_and_wait(topic(stage + 1), body, key=record.key)


async def work() -> None:
    """Run all stages."""
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, acks="all")
    await producer.start()
    await asyncio.gather(*(consume(stage, producer) for stage in range(STAGES) for _ in range(PARTITIONS)))


if __name__ == "__main__":
    if sys.argv[1] == "client":
        serve(KafkaClient(STAGES))
    else:
        run_loop(work())
