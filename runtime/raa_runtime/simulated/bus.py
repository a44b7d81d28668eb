"""The `Bus` of one simulated process, with the habits of the real client.

Positions move on fetch; a rebalance takes everything from everybody, and what comes back starts at the committed
offset; the client forgets a pause with it, so that this adapter renews it; a commit after the loss of a partition
raises; who was silent for too long learns of it late, and reads on meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress

from raa_runtime.bus.port import Message, Rebalance, Record, TopicPartition, TopicSpec
from raa_runtime.errors import DependencyUnavailable, TransientError
from raa_runtime.simulated.broker import HEARTBEAT_SECONDS, Broker
from raa_runtime.simulated.process import PROCESS
from raa_runtime.simulated.wire import UNANSWERED_SECONDS, Wire


class SimulatedBus:
    """One process's connection to the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._wire = Wire(broker)
        self._subscriptions: list[SimulatedSubscription] = []

    async def start(self) -> None:
        """Connect."""
        await self.ping()

    async def stop(self) -> None:
        """Disconnect."""
        for subscription in list(self._subscriptions):
            await subscription.close()

    async def publish(self, messages: Sequence[Message], *, patience: float | None = None) -> list[Exception | None]:
        """Append; without a reply everything that was not refused is unknown."""
        try:
            async with asyncio.timeout(patience):
                return await self._wire.ask(lambda: self._broker.append(messages), change="publish")
        except DependencyUnavailable as unknown:
            return [unknown] * len(messages)
        except TimeoutError:
            return [DependencyUnavailable("no answer in time")] * len(messages)

    async def subscribe(self, group: str, topics: Sequence[str], rebalance: Rebalance) -> "SimulatedSubscription":
        """Join a group."""
        known = await self.topics()
        if missing := [topic for topic in topics if topic not in known]:
            raise DependencyUnavailable(f"there is no topic {missing[0]!r}; create it with `raa topics apply`")
        subscription = SimulatedSubscription(self._broker, self._wire, group, topics, rebalance)
        self._subscriptions.append(subscription)
        await subscription.open()
        return subscription

    async def read(self, topics: Sequence[str], *, from_beginning: bool, follow: bool) -> AsyncIterator[Record]:
        """Read as an observer."""
        ends = await self.end_offsets(topics)
        positions = dict.fromkeys(ends, 0) if from_beginning else ends
        while True:
            for place in positions:
                for record in self._broker.fetch(place, positions[place], 1_000_000):
                    positions[place] = record.offset + 1
                    yield record
            if not follow:
                return
            await asyncio.sleep(0.05)

    async def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give the next offset of each partition."""
        return await self._wire.ask(lambda: self._broker.ends(topics))

    async def committed(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give a group's offsets."""
        offsets = self._broker.group(group).offsets
        return await self._wire.ask(lambda: {place: at for place, at in offsets.items() if place.topic in topics})

    async def apply_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create missing topics."""
        return await self._wire.ask(lambda: self._broker.create(specs))

    async def topics(self) -> dict[str, int]:
        """Give the topics there are."""
        return await self._wire.ask(lambda: {name: len(parts) for name, parts in self._broker.topics.items()})

    async def ping(self) -> None:
        """Ask whether it is there."""
        await self._wire.ask(lambda: None)


class SimulatedSubscription:
    """One member of a group."""

    keeps_pause = True
    """what this adapter adds to its client; a test that takes it away shows that it is needed"""

    def __init__(self, broker: Broker, wire: Wire, group: str, topics: Sequence[str], rebalance: Rebalance) -> None:
        self.topics = tuple(topics)
        self.process = PROCESS.get()
        self._broker, self._wire = broker, wire
        self._group = broker.group(group)
        self._rebalance = rebalance
        self._positions: dict[TopicPartition, int] = {}
        self._wanted_paused: set[TopicPartition] = set()
        self._paused: set[TopicPartition] = set()
        self._dealt: Mapping[TopicPartition, int] | None = None
        self._settled = False
        self._news = asyncio.Event()
        self._arrived = asyncio.Event()
        self._belonging: asyncio.Task[None] | None = None
        self._invited = False

    # what the broker says; it speaks to a dead process in vain

    def invited(self) -> None:
        """Hear of a rebalance."""
        self._invited = True
        self._news.set()

    def dealt(self, held: Mapping[TopicPartition, int]) -> None:
        """Hear of the own share; every invitation so far was to this deal."""
        self._dealt, self._invited = held, False
        self._news.set()

    def arrived(self) -> None:
        """Hear of records."""
        self._arrived.set()

    # the client's background task

    async def open(self) -> None:
        """Join, and wait for nothing: partitions come when they come."""
        await self._wire.ask(lambda: self._group.add(self))
        self._belonging = asyncio.create_task(self._belong(), name=f"member of {self._group.name}")

    async def _belong(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS * 4):
                    await self._news.wait()
            self._news.clear()
            if self._invited:
                await self._give_up()
            elif self not in self._group.members:
                await self._rejoin()
            if self._dealt is not None and not self._invited:
                await self._take(self._dealt)

    async def _give_up(self) -> None:
        await asyncio.sleep(self._broker.chance.between(0.0, HEARTBEAT_SECONDS))
        if not self._invited:
            return
        self._invited, self._dealt = False, None
        await self._lose()
        with suppress(DependencyUnavailable):
            await self._wire.ask(lambda: self._group.join(self))

    async def _rejoin(self) -> None:
        """Go on after the broker dropped this member for its silence."""
        await self._lose()
        with suppress(DependencyUnavailable):
            await self._wire.ask(self._add_again)

    def _add_again(self) -> None:
        if self not in self._group.members:
            self._group.add(self)

    async def _lose(self) -> None:
        held = frozenset(self._positions)
        self._settled = False
        await self._rebalance.revoked(held)
        self._positions = {}

    async def _take(self, dealt: Mapping[TopicPartition, int]) -> None:
        self._dealt = None
        self._positions = dict(dealt)
        self._paused = self._wanted_paused & dealt.keys() if self.keeps_pause else set()
        await self._rebalance.assigned(frozenset(dealt))
        self._settled = True
        self._arrived.set()

    # the port

    async def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        """Fetch what is there, or wait for it."""
        if self._broker.away:
            await asyncio.sleep(min(timeout_seconds, UNANSWERED_SECONDS))
            if self._broker.away:
                return []
        await asyncio.sleep(self._broker.chance.delay())
        if records := self._fetch(max_records):
            return records
        self._arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._arrived.wait()
        return self._fetch(max_records)

    def _fetch(self, max_records: int) -> list[Record]:
        if not self._settled:
            return []
        places = [place for place in self._positions if place not in self._paused]
        first = self._broker.chance.up_to(len(places)) if places else 0
        records: list[Record] = []
        for place in places[first:] + places[:first]:
            limit = min(max_records - len(records), 1 + self._broker.chance.up_to(8))
            fetched = self._broker.fetch(place, self._positions[place], limit)
            if fetched:
                self._positions[place] = fetched[-1].offset + 1
                records += fetched
        return records

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit exactly these."""
        given = dict(offsets)
        await self._wire.ask(lambda: self._group.commit(self, given), change="commit")

    def assignment(self) -> frozenset[TopicPartition]:
        """Name the held partitions."""
        return frozenset(self._positions)

    def pause(self, places: Collection[TopicPartition]) -> None:
        """Fetch nothing of these."""
        self._wanted_paused.update(places)
        self._paused.update(places)

    def resume(self, places: Collection[TopicPartition]) -> None:
        """Fetch these again."""
        self._wanted_paused.difference_update(places)
        self._paused.difference_update(places)
        self._arrived.set()

    async def skip(self, place: TopicPartition, offset: int) -> None:
        """Go on at this offset."""
        if place not in self._positions:
            raise TransientError(f"this member no longer holds {place.topic}/{place.partition}")
        self._positions[place] = offset

    async def lag(self) -> dict[TopicPartition, int]:
        """Count what lies behind the committed offsets."""
        places, offsets = list(self._positions), self._group.offsets
        return await self._wire.ask(lambda: {one: self._broker.lag(one, offsets.get(one, 0)) for one in places})

    async def close(self) -> None:
        """Leave the group."""
        if self._belonging is not None:
            self._belonging.cancel()
        with suppress(DependencyUnavailable):
            await self._wire.ask(lambda: self._group.remove(self))
        self._positions = {}
