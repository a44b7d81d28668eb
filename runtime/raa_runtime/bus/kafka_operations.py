"""The operator's side of a Kafka cluster: how old records are, which groups have members, growing topics."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Self

from aiokafka import TopicPartition as KafkaPlace
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from raa_runtime.bus.kafka_connection import KafkaSecurity, KafkaTuning, connection_options, within
from raa_runtime.bus.kafka_consumer import close_consumer, start_consumer, to_record
from raa_runtime.bus.port import TopicPartition
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned

_POLL_MS: Final = 200
_LOOK_SECONDS: Final = 0.1
_READ_SECONDS: Final = 5.0


class KafkaOperations:
    """`Operations` on a cluster; opened for one question or a few, as an operator's command does."""

    def __init__(
        self, bootstrap: str, *, security: KafkaSecurity | None = None, client_id: str = "raa-operator"
    ) -> None:
        self._tuning = KafkaTuning()
        self._options = connection_options(bootstrap, security or KafkaSecurity()) | {"client_id": client_id}

    @classmethod
    def from_settings(cls, settings: ServiceSettings) -> Self:
        """Build it as the settings say; raises Misconfigured."""
        security = KafkaSecurity.from_settings(settings.kafka_security)
        return cls(settings.kafka_bootstrap, security=security, client_id=owned(settings.deployment, "raa-operator"))

    async def start(self) -> None:
        """Connect; raises DependencyUnavailable."""
        seconds = self._tuning.call_timeout
        self._admin = AIOKafkaAdminClient(**self._options, request_timeout_ms=int(seconds * 1000))
        try:
            await within(seconds, self._admin.start(), "connecting")
        except DependencyUnavailable:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Disconnect."""
        try:
            await within(self._tuning.call_timeout, self._admin.close(), "disconnecting")
        except DependencyUnavailable:
            return

    async def times(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, datetime]:
        """Give the time of the first record at or behind each offset; what does not come in 5 s is left out."""
        if not offsets:
            return {}
        consumer = await start_consumer(self._options, self._tuning, None)
        try:
            consumer.assign([KafkaPlace(*place) for place in offsets])
            for place, offset in offsets.items():
                consumer.seek(KafkaPlace(*place), offset)
            return await self._first_times(consumer, set(offsets))
        finally:
            await close_consumer(consumer)

    async def _first_times(self, consumer: Any, missing: set[TopicPartition]) -> dict[TopicPartition, datetime]:
        found: dict[TopicPartition, datetime] = {}
        end = asyncio.get_running_loop().time() + _READ_SECONDS
        while missing and asyncio.get_running_loop().time() < end:
            wanted = [KafkaPlace(*place) for place in missing]
            fetched = await within(self._tuning.call_timeout, consumer.getmany(*wanted, timeout_ms=_POLL_MS), "reading")
            for place, batch in fetched.items():
                found[TopicPartition(*place)] = to_record(batch[0]).timestamp
                missing.discard(TopicPartition(*place))
        return found

    async def groups(self) -> dict[str, int]:
        """Name the consumer groups of the cluster with the number of their members."""
        seconds = self._tuning.call_timeout
        listed = await within(seconds, self._admin.list_consumer_groups(), "listing groups")
        names = sorted(name for name, protocol in listed if protocol in {"consumer", ""})
        counts = await asyncio.gather(*(self._members(name) for name in names))
        return dict(zip(names, counts, strict=True))

    async def _members(self, group: str) -> int:
        # one at a time: aiokafka 0.14 reads version 3 of the answer as version 2 and stumbles over a second group
        asking = self._admin.describe_consumer_groups([group])
        answers = await within(self._tuning.call_timeout, asking, f"describing group {group}")
        return sum(len(found["members"]) for answer in answers for found in answer.to_object()["groups"])

    async def grow(self, partitions: Mapping[str, int]) -> None:
        """Give topics more partitions and wait until the cluster knows them."""
        if not partitions:
            return
        wanted = {topic: NewPartitions(count) for topic, count in partitions.items()}
        await within(self._tuning.call_timeout, self._admin.create_partitions(wanted), "growing topics")
        await self._until_grown(partitions)

    async def _until_grown(self, partitions: Mapping[str, int]) -> None:
        end = asyncio.get_running_loop().time() + self._tuning.call_timeout
        while True:
            found = await within(self._tuning.call_timeout, self._admin.describe_topics(), "listing topics")
            there = {entry["topic"]: len(entry["partitions"]) for entry in found}
            if all(there.get(topic, 0) >= count for topic, count in partitions.items()):
                return
            if asyncio.get_running_loop().time() > end:
                raise DependencyUnavailable("the topics were told to grow, but the broker does not show it yet")
            await asyncio.sleep(_LOOK_SECONDS)
