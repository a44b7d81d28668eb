"""One member of a Kafka consumer group."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPlace
from aiokafka.errors import KafkaError

from raa_runtime.bus.kafka_connection import KafkaTuning, translate, within
from raa_runtime.bus.kafka_consumer import close_consumer, to_record
from raa_runtime.bus.kafka_fetch import fetcher_died, watch
from raa_runtime.bus.kafka_offsets import KafkaOffsets
from raa_runtime.bus.port import Rebalance, Record, TopicPartition, UndecodableBatch
from raa_runtime.errors import DependencyUnavailable, TransientError

# an awaited rebalance may hold a poll longer than asked for; then it comes back empty
_POLL_GRACE_SECONDS = 1.0


class KafkaSubscription:
    """A `Subscription`. The caller polls all the time, also with everything paused."""

    def __init__(
        self, consumer: AIOKafkaConsumer, group: str, rebalance: Rebalance, offsets: KafkaOffsets, tuning: KafkaTuning
    ) -> None:
        self._consumer = consumer
        self._group = group
        self._offsets = offsets
        self._seconds = tuning.call_timeout
        self._paused: set[TopicPartition] = set()
        self._undecodable: dict[TopicPartition, UndecodableBatch] = {}
        self._listener = _Listener(self, rebalance)

    def join(self, topics: Collection[str]) -> None:
        """Ask for partitions; `Rebalance.assigned` tells which. The consumer has been started."""
        watch(self._consumer, self._set_aside)
        self._consumer.subscribe(list(topics), listener=self._listener)

    def _set_aside(self, batch: UndecodableBatch) -> None:
        self._undecodable[batch.place] = batch
        # or the fetcher would ask for the same bytes again at once
        self._consumer.pause(KafkaPlace(*batch.place))

    async def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        """Fetch the next records; raises UndecodableBatch until it is skipped, and DependencyUnavailable."""
        for batch in self._undecodable.values():
            raise batch
        if fetcher_died(self._consumer):
            raise DependencyUnavailable("the Kafka client has stopped fetching; restart this process")
        try:
            async with asyncio.timeout(timeout_seconds + _POLL_GRACE_SECONDS):
                fetched = await self._consumer.getmany(timeout_ms=int(timeout_seconds * 1000), max_records=max_records)
        except TimeoutError:
            return []
        except KafkaError as problem:
            raise translate(problem, "polling") from problem
        return self._deliverable(fetched)

    def _deliverable(self, fetched: Mapping[Any, list[Any]]) -> list[Record]:
        """Hand out what the caller expects; what came in between an assignment and its announcement goes back."""
        records: list[Record] = []
        for place, batch in fetched.items():
            if not self._listener.settled or (self._paused and TopicPartition(*place) in self._paused):
                self._consumer.seek(place, batch[0].offset)
            else:
                records += map(to_record, batch)
        return records

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit exactly these; the client alone would retry for ever."""
        if offsets:
            named = {KafkaPlace(*place): offset for place, offset in offsets.items()}
            await within(self._seconds, self._consumer.commit(named), "committing")

    def assignment(self) -> frozenset[TopicPartition]:
        """Name the partitions this member holds."""
        return frozenset(TopicPartition(*place) for place in self._consumer.assignment())

    def pause(self, places: Collection[TopicPartition]) -> None:
        """Fetch nothing of these until `resume`, also after a rebalance brought them back."""
        self._paused.update(places)
        self._pause_held(places)

    def _pause_held(self, places: Iterable[TopicPartition]) -> None:
        held = self._consumer.assignment()
        self._consumer.pause(*(place for place in map(_kafka_place, places) if place in held))

    def resume(self, places: Collection[TopicPartition]) -> None:
        """Fetch these again; one that cannot be decoded waits for `skip`."""
        self._paused.difference_update(places)
        held = self._consumer.assignment()
        self._consumer.resume(
            *(_kafka_place(place) for place in places if place not in self._undecodable and place in held)
        )

    async def skip(self, place: TopicPartition, offset: int) -> None:
        """Go on at this offset; raises TransientError when the partition is no longer held."""
        if _kafka_place(place) not in self._consumer.assignment():
            raise TransientError(f"this member no longer holds {place.topic}/{place.partition}")
        self._consumer.seek(_kafka_place(place), offset)
        if self._undecodable.pop(place, None) and place not in self._paused:
            self._consumer.resume(_kafka_place(place))

    async def lag(self) -> dict[TopicPartition, int]:
        """Count the records behind the committed offset of each held partition."""
        return await self._offsets.lag(self._group, self.assignment())

    async def close(self) -> None:
        """Leave the group."""
        await close_consumer(self._consumer)

    def forget(self) -> None:
        """Drop what was noted about partitions that are dealt out anew."""
        self._undecodable.clear()

    def pause_again(self) -> None:
        """Pause what was paused before: aiokafka forgets it with every rebalance."""
        self._pause_held(self._paused)


def _kafka_place(place: TopicPartition) -> KafkaPlace:
    return KafkaPlace(place.topic, place.partition)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka's classes carry no types
    """Translate the client's callbacks; `settled` is false from a revocation until the new partitions are announced."""

    def __init__(self, subscription: KafkaSubscription, rebalance: Rebalance) -> None:
        self._subscription = subscription
        self._rebalance = rebalance
        self.settled = False

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        self.settled = False
        if revoked:  # the first join revokes nothing
            await self._rebalance.revoked(frozenset(TopicPartition(*place) for place in revoked))

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._subscription.forget()
        self._subscription.pause_again()
        try:
            await self._rebalance.assigned(frozenset(TopicPartition(*place) for place in assigned))
        finally:
            self.settled = True  # the client logs what the callback raised and goes on
