"""The bus on Apache Kafka: aiokafka in the hot loop, with our own deadline around everything that can hang."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from socket import gethostname
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPlace

from raa_runtime.bus.kafka_admin import KafkaAdmin
from raa_runtime.bus.kafka_connection import KafkaSecurity, KafkaTuning, connection_options, within
from raa_runtime.bus.kafka_consumer import close_consumer, start_consumer, to_record
from raa_runtime.bus.kafka_fetch import watch
from raa_runtime.bus.kafka_offsets import KafkaOffsets
from raa_runtime.bus.kafka_publisher import KafkaPublisher
from raa_runtime.bus.kafka_subscription import KafkaSubscription
from raa_runtime.bus.port import Message, Rebalance, Record, TopicPartition, TopicSpec, UndecodableBatch
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned

_READ_BATCH = 1_000
_READ_MS = 200
_MISSING_TOPIC_SECONDS = 1.0


class KafkaBus:
    """A `Bus` on a Kafka cluster. `client_id` names this process in the broker's logs.

    With `instance`, a name that its restarts keep and no other process has, it is a static member of its groups: it
    comes back within the session and goes on with its partitions, without a rebalance and without waiting for the end
    of its former self. The price: when it stops for good, others get its partitions only when the session is over.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "raa",
        instance: str | None = None,
        security: KafkaSecurity | None = None,
        tuning: KafkaTuning | None = None,
    ) -> None:
        self._tuning = tuning or KafkaTuning()
        self._options = connection_options(bootstrap, security or KafkaSecurity()) | {"client_id": client_id}
        self._admin = KafkaAdmin(self._options, self._tuning)
        self._publisher = KafkaPublisher(self._options, self._tuning, self._admin.topics, self._admin.largest_batch)
        self._offsets = KafkaOffsets(self._options, self._tuning, self._admin)
        self._instance = instance
        self._subscriptions: list[KafkaSubscription] = []

    @classmethod
    def from_settings(cls, settings: ServiceSettings) -> "KafkaBus":
        """Build it as the settings say; raises Misconfigured."""
        tuning = KafkaTuning(heartbeat=settings.kafka_heartbeat_seconds, session=settings.kafka_session_seconds)
        security = KafkaSecurity.from_settings(settings.kafka_security)
        client_id = owned(settings.deployment, f"raa-{settings.instance or gethostname()}")
        instance = settings.instance or None
        return cls(settings.kafka_bootstrap, client_id=client_id, instance=instance, security=security, tuning=tuning)

    async def start(self) -> None:
        """Connect; raises DependencyUnavailable."""
        await self._admin.start()
        try:
            await self._publisher.start()
        except BaseException:
            await self._admin.stop()
            raise

    async def stop(self) -> None:
        """Leave the groups and disconnect within 10 seconds, whatever the broker does."""
        leaving = [member.close() for member in self._subscriptions]
        await asyncio.gather(self._publisher.stop(), self._offsets.stop(), self._admin.stop(), *leaving)

    async def publish(self, messages: Sequence[Message], *, patience: float | None = None) -> list[Exception | None]:
        """Append all, in order per key; one verdict per message."""
        return await self._publisher.publish(messages, patience)

    async def subscribe(self, group: str, topics: Sequence[str], rebalance: Rebalance) -> KafkaSubscription:
        """Join a group; returns before the group has dealt out its partitions."""
        missing = set(topics) - (await self._admin.topics()).keys()
        if missing:
            raise DependencyUnavailable(f"there is no topic {min(missing)!r}; create it with `raa topics apply`")
        consumer = await start_consumer(self._options, self._tuning, group, self._instance)
        subscription = KafkaSubscription(consumer, group, rebalance, self._offsets, self._tuning)
        subscription.join(topics)
        self._subscriptions.append(subscription)
        return subscription

    async def read(self, topics: Sequence[str], *, from_beginning: bool, follow: bool) -> AsyncIterator[Record]:
        """Read as an observer; topics that do not exist yet are waited for when following, else left out."""
        ends = await self._first_ends(topics, follow=follow)
        if not ends:
            return
        consumer = await start_consumer(self._options, self._tuning, None)
        try:
            starts = await self._offsets.begins(list(ends)) if from_beginning else ends
            observer = _Observer(consumer, starts, ends, follow=follow)
            while not await observer.at_end():
                for record in await observer.take():
                    yield record
        finally:
            await close_consumer(consumer)

    async def _first_ends(self, topics: Sequence[str], *, follow: bool) -> dict[TopicPartition, int]:
        ends = await self.end_offsets(topics)
        while follow and not ends:
            await asyncio.sleep(_MISSING_TOPIC_SECONDS)
            ends = await self.end_offsets(topics)
        return ends

    async def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give the offset of the next record of each partition; topics that do not exist are left out."""
        present = await self._admin.topics()
        places = [
            TopicPartition(topic, part) for topic in set(topics) & present.keys() for part in range(present[topic])
        ]
        return await self._offsets.ends(places) if places else {}

    async def committed(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give a group's committed next offsets; partitions never committed are left out."""
        return await self._admin.committed(group, topics)

    async def apply_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the topics that are missing; returns their names."""
        return await self._admin.apply(specs)

    async def topics(self) -> dict[str, int]:
        """Give the number of partitions of each topic there is."""
        return await self._admin.topics()

    async def weaknesses(self, topics: Collection[str]) -> list[str]:
        """Name the topics whose confirmed records the loss of one broker may lose."""
        return await self._admin.weaknesses(topics)

    async def ping(self) -> None:
        """Raise DependencyUnavailable when the bus does not answer within 2 seconds."""
        await self._admin.ping()


class _Observer:
    """A reader of whole topics without a group; what cannot be decoded is stepped over."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        starts: dict[TopicPartition, int],
        ends: dict[TopicPartition, int],
        *,
        follow: bool,
    ) -> None:
        self._consumer = consumer
        self._ends = {KafkaPlace(*place): end for place, end in ends.items()}
        self._follow = follow
        self._undecodable: list[UndecodableBatch] = []
        watch(consumer, self._undecodable.append)
        consumer.assign(list(self._ends))
        for place, start in starts.items():
            consumer.seek(KafkaPlace(*place), start)

    async def at_end(self) -> bool:
        """Say whether all that was there at the beginning has been read; never when following."""
        if self._follow:
            return False
        for place, end in self._ends.items():
            if await self._consumer.position(place) < end:
                return False
        return True

    async def take(self) -> list[Record]:
        for batch in self._undecodable:
            self._consumer.seek(KafkaPlace(*batch.place), batch.next_offset)
        self._undecodable.clear()
        fetched: dict[Any, list[Any]] = await within(
            30.0, self._consumer.getmany(timeout_ms=_READ_MS, max_records=_READ_BATCH), "reading"
        )
        return [
            to_record(record)
            for place, batch in fetched.items()
            for record in batch
            if self._follow or record.offset < self._ends[place]
        ]
