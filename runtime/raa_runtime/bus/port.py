"""What the runtime needs of a bus. Kafka, embedded and simulated adapters implement exactly this."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from raa_runtime.errors import PermanentError

Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic; `topic` carries the deployment's prefix."""

    topic: str
    partition: int


@dataclass(slots=True)  # frozen would double what every record pays for it
class Record:
    """One record as it lies on the bus."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def place(self) -> TopicPartition:
        """Name the partition the record lies in."""
        return TopicPartition(self.topic, self.partition)


class UndecodableBatch(PermanentError):
    """Records from `offset` up to before `next_offset` that no consumer can read: broken, or of an unknown codec.

    `skip(place, next_offset)` goes on behind them; until then the partition stands still and the others go on.
    """

    def __init__(self, place: TopicPartition, offset: int, next_offset: int, reason: str) -> None:
        where = f"{place.topic}/{place.partition}, offsets {offset} to {next_offset - 1}"
        super().__init__(f"{where}, cannot be decoded: {reason}")
        self.place = place
        self.offset = offset
        self.next_offset = next_offset
        self.reason = reason


@dataclass(slots=True)
class Message:
    """One record to publish; the partition follows from the key (murmur2, as Java clients place it)."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create, or to compare with what is there."""

    name: str
    partitions: int
    replication: int
    retention: timedelta
    compacted: bool
    max_message_bytes: int


class Rebalance(Protocol):
    """What a subscriber is told about its partitions. Both must return within seconds."""

    async def revoked(self, places: Collection[TopicPartition]) -> None:
        """Stop working on these, commit what is done."""
        ...

    async def assigned(self, places: Collection[TopicPartition]) -> None:
        """Start with these at their committed offsets."""
        ...


class Subscription(Protocol):
    """One member of a consumer group."""

    async def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        """Fetch the next records of the assigned partitions that are not paused; an empty list after the timeout.

        Raises UndecodableBatch, again at every call until its partition is skipped, and DependencyUnavailable.
        """
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit exactly these next offsets; raises TransientError when the group no longer knows this member."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """Name the partitions this member holds."""
        ...

    def pause(self, places: Collection[TopicPartition]) -> None:
        """Fetch nothing of these until `resume`; the adapter keeps a pause over a rebalance."""
        ...

    def resume(self, places: Collection[TopicPartition]) -> None:
        """Fetch these again."""
        ...

    async def skip(self, place: TopicPartition, offset: int) -> None:
        """Go on at this offset."""
        ...

    async def lag(self) -> dict[TopicPartition, int]:
        """Count the records behind the committed offset of each held partition."""
        ...

    async def close(self) -> None:
        """Leave the group; never takes longer than 10 seconds, whatever the broker does."""
        ...


class Bus(Protocol):
    """A durable partitioned log with consumer groups."""

    async def start(self) -> None:
        """Connect; raises DependencyUnavailable."""
        ...

    async def stop(self) -> None:
        """Disconnect; never takes longer than 10 seconds."""
        ...

    async def publish(self, messages: Sequence[Message], *, patience: float | None = None) -> list[Exception | None]:
        """Append all, in order per key. Many calls may be under way at once.

        One entry per message: None when it is durable, PublishRefused when it never will be, TransientError when that
        is unknown, as it is of all without an answer after `patience` seconds.
        """
        ...

    async def subscribe(self, group: str, topics: Sequence[str], rebalance: Rebalance) -> Subscription:
        """Join a group. New groups start at the earliest record."""
        ...

    def read(self, topics: Sequence[str], *, from_beginning: bool, follow: bool) -> AsyncIterator[Record]:
        """Read without a group and without commits, as observers do; without `follow` it ends at the newest record."""
        ...

    async def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give the offset of the next record of each partition; topics that do not exist are left out."""
        ...

    async def committed(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give a group's committed next offsets; partitions never committed are left out."""
        ...

    async def apply_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the topics that are missing; returns their names."""
        ...

    async def topics(self) -> dict[str, int]:
        """Give the number of partitions of each topic there is."""
        ...

    async def ping(self) -> None:
        """Raise DependencyUnavailable when the bus does not answer within 2 seconds."""
        ...
