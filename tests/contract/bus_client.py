"""What a test of a bus needs: a member that remembers what it was told, and polling until something holds."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta

from raa_runtime.bus.port import Bus, Message, Record, Subscription, TopicPartition, TopicSpec
from raa_schemas.topics import MAX_MESSAGE_BYTES

PATIENCE_SECONDS = 30.0


class Member:
    """A `Rebalance` that remembers, and the subscription it belongs to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, frozenset[TopicPartition]]] = []
        self.subscription: Subscription
        self.on_revoked: Callable[[], Awaitable[None]] | None = None

    async def revoked(self, places: Collection[TopicPartition]) -> None:
        if self.on_revoked:
            await self.on_revoked()
        self.told.append(("revoked", frozenset(places)))

    async def assigned(self, places: Collection[TopicPartition]) -> None:
        self.told.append(("assigned", frozenset(places)))

    @property
    def held(self) -> frozenset[TopicPartition]:
        """What it was told last that it holds."""
        return self.told[-1][1] if self.told and self.told[-1][0] == "assigned" else frozenset()


def topic(name: str, partitions: int = 3, largest: int = MAX_MESSAGE_BYTES) -> TopicSpec:
    return TopicSpec(name, partitions, 1, timedelta(days=7), compacted=False, max_message_bytes=largest)


def message(name: str, key: str, value: str, *headers: tuple[str, bytes]) -> Message:
    return Message(name, key.encode(), value.encode(), headers)


def group_of(group: str, topic: str) -> str:
    """Name a group of this test only: all tests share one broker."""
    return f"{topic}-{group}"


async def join(bus: Bus, group: str, topics: Sequence[str]) -> Member:
    member = Member()
    member.subscription = await bus.subscribe(group_of(group, topics[0]), topics, member)
    return member


async def settle(*members: Member, partitions: int) -> None:
    """Poll until the members share exactly so many partitions among them."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            shares = [member.held for member in members]
            if all(shares) and sum(map(len, shares)) == partitions == len(frozenset().union(*shares)):
                return
            for member in members:
                assert await member.subscription.poll(1, 0.05) == []


async def take(member: Member, count: int) -> list[Record]:
    """Poll until so many records came; more is a failure."""
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(records) < count:
            records += await member.subscription.poll(500, 0.2)
    assert len(records) == count, [record.value for record in records]
    return records


def behind(records: Collection[Record]) -> dict[TopicPartition, int]:
    """The offsets to commit when all of these are done."""
    return {record.place: record.offset + 1 for record in sorted(records, key=lambda record: record.offset)}
