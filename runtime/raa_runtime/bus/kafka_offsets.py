"""First, next and committed offsets, asked on a connection where no fetch is waiting in front."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPlace

from raa_runtime.bus.kafka_admin import KafkaAdmin
from raa_runtime.bus.kafka_connection import KafkaTuning, within
from raa_runtime.bus.kafka_consumer import close_consumer, start_consumer
from raa_runtime.bus.port import TopicPartition


class KafkaOffsets:
    """A consumer that reads nothing: a broker answers a connection in order, and behind a fetch that takes 500 ms."""

    def __init__(self, options: dict[str, Any], tuning: KafkaTuning, admin: KafkaAdmin) -> None:
        self._options = options
        self._tuning = tuning
        self._admin = admin
        self._opening = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None

    async def _open(self) -> AIOKafkaConsumer:
        async with self._opening:
            if self._consumer is None:
                self._consumer = await start_consumer(self._options, self._tuning, None)
            return self._consumer

    async def _knowing(self, places: Collection[TopicPartition]) -> AIOKafkaConsumer:
        """Have it learn all topics at once: left alone, it finds out about one unknown topic each 100 ms."""
        consumer = await self._open()
        for topic in {place.topic for place in places}:
            consumer._client.add_topic(topic)
        return consumer

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer:
            await close_consumer(self._consumer)

    async def ends(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Give the offset of the next record of partitions that exist."""
        consumer = await self._knowing(places)
        asked = [KafkaPlace(*place) for place in places]
        found = await within(self._tuning.call_timeout, consumer.end_offsets(asked), "reading end offsets")
        return {TopicPartition(*place): offset for place, offset in found.items()}

    async def begins(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Give the offset of the first retained record of partitions that exist."""
        consumer = await self._knowing(places)
        asked = [KafkaPlace(*place) for place in places]
        found = await within(self._tuning.call_timeout, consumer.beginning_offsets(asked), "reading first offsets")
        return {TopicPartition(*place): offset for place, offset in found.items()}

    async def lag(self, group: str, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Count what is retained behind the committed offsets; without one, all that is retained."""
        if not places:
            return {}
        ends, begins = await asyncio.gather(self.ends(places), self.begins(places))
        starts = await self._admin.committed(group, list({place.topic for place in places}))
        return {place: max(0, end - max(starts.get(place, 0), begins[place])) for place, end in ends.items()}
