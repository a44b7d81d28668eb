"""A client of stages that are joined by Kafka topics: pipelined sends with acks=all, batched reading."""

import asyncio
import json
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.peers.client import End, Task
from benchmarks.peers.environment import KAFKA, PARTITIONS, STAGES, topic


class KafkaClient:
    """Write to the first topic, read from the last."""

    def __init__(self, stages: int = STAGES) -> None:
        self._stages = stages

    async def start(self) -> None:
        """Create the topics and connect."""
        admin = AIOKafkaAdminClient(bootstrap_servers=KAFKA)
        await admin.start()
        await admin.create_topics([NewTopic(topic(stage), PARTITIONS, 1) for stage in range(self._stages + 1)])
        await admin.close()
        self._producer = AIOKafkaProducer(bootstrap_servers=KAFKA, acks="all", linger_ms=2, max_batch_size=65_536)
        self._consumer = AIOKafkaConsumer(topic(self._stages), bootstrap_servers=KAFKA, auto_offset_reset="earliest")
        await self._producer.start()
        await self._consumer.start()

    async def submit(self, tasks: Sequence[Task]) -> None:
        """Send them all, then wait for all."""
        sent = [
            await self._producer.send(topic(0), json.dumps(task.body()).encode(), key=task.key.encode())
            for task in tasks
        ]
        await asyncio.gather(*sent)

    async def ends(self) -> Sequence[End]:
        """Read what came out."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=1_000)
            if found := [End.of(json.loads(record.value)) for batch in fetched.values() for record in batch]:
                return found

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
        await self._producer.stop()
