"""The consumer policy, the same on every bus: lanes, bounded in-flight, watermark, pause and resume."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from raa_runtime.bus.port import Bus, Record, Subscription, TopicPartition, UndecodableBatch
from raa_runtime.clock import Clock
from raa_runtime.errors import TransientError
from raa_runtime.guard import result_of
from raa_runtime.lanes import Lanes
from raa_runtime.redrive import GroupIntake, Taken
from raa_runtime.telemetry import Logger
from raa_runtime.watermark import Watermark
from raa_schemas.envelope import InvalidEventError

COMMIT_SECONDS: Final = 0.2
COMMIT_RECORDS: Final = 500
_POLL_RECORDS: Final = 500
_POLL_SECONDS: Final = 0.2
Handle = Callable[[Taken], Awaitable[None]]
HandleAll = Callable[[Sequence[Taken]], Awaitable[Sequence[bool]]]
_Item = tuple[Taken, Record, Watermark]
Poison = Callable[[Record, InvalidEventError, datetime], Awaitable[None]]


class Consumer:
    """Read a group's topics into lanes and commit what is settled.

    `handle` and `poison` must not raise. `handle_all` says of each event whether it is handled; `handle` gets the rest.
    `apart` names the convoys an event of a partition may travel with: those it names the same.
    """

    def __init__(
        self,
        bus: Bus,
        group: str,
        topics: Sequence[str],
        intake: GroupIntake,
        lanes: Lanes,
        lane_of: Callable[[Taken], str],
        handle: Handle,
        handle_all: HandleAll,
        poison: Poison,
        max_in_flight: int,
        clock: Clock,
        log: Logger,
        apart: Callable[[int], int | None] = lambda partition: partition,
    ) -> None:
        self._bus, self._group, self._topics = bus, group, topics
        self._intake, self._lanes, self._lane_of = intake, lanes, lane_of
        self._handle, self._handle_all, self._poison = handle, handle_all, poison
        self._max_in_flight = max_in_flight
        self._clock, self._log, self._apart = clock, log, apart
        self._marks: dict[TopicPartition, Watermark] = {}
        self._subscription: Subscription | None = None
        self._paused = self._held = False
        self._taking = True
        self._since_commit = 0
        self._committed_at = 0.0
        self._committing = asyncio.Lock()
        self.in_flight = 0
        self.settled = 0
        self.belongs = False
        """whether the group has told this member what it holds, if only that it is nothing"""

    async def start(self) -> None:
        """Join the group."""
        self._subscription = await self._bus.subscribe(self._group, self._topics, self)

    @property
    def subscription(self) -> Subscription:
        """Give the membership; only after `start`."""
        if self._subscription is None:
            raise RuntimeError("the consumer was not started")
        return self._subscription

    @property
    def partitions(self) -> frozenset[int]:
        """Name the partition numbers this member holds, over all topics."""
        return frozenset(place.partition for place in self._marks)

    @property
    def marks(self) -> Mapping[TopicPartition, Watermark]:
        """Give the watermark of each partition this member holds."""
        return self._marks

    async def run(self) -> None:
        """Fetch until `stop_taking`."""
        while self._taking:
            try:
                # with no room everything is paused, and the poll only keeps the membership
                room = max(1, self._max_in_flight - self.in_flight)
                records = await self.subscription.poll(min(_POLL_RECORDS, room), _POLL_SECONDS)
            except UndecodableBatch as broken:
                await self._step_over(broken)
                continue
            except TransientError as problem:
                self._log.warning("poll_failed", reason=str(problem))
                await asyncio.sleep(1.0)
                continue
            for record in records:
                self._take(record)
            self._flow()
            await self.commit_if_due()
            if records:
                await asyncio.sleep(0)

    def _take(self, record: Record) -> None:
        mark = self._marks.get(record.place)
        if mark is None or not self._taking:
            return
        mark.take(record.offset, record.timestamp)
        self.in_flight += 1
        # whatever a record makes its reader raise is the record's fault; a raise here would lose those behind it
        addressed = result_of(self._intake.take, record)
        if isinstance(addressed, Exception):
            self._put_poison(record, mark, addressed)
        else:
            self._lanes.join(self._lane_of(addressed), self, (addressed, record, mark), self._apart(record.partition))

    async def together(self, items: Sequence[_Item]) -> Sequence[bool]:
        """Handle what can be handled together with others of its tick."""
        done = await self._handle_all([taken for taken, _, _ in items])
        for (_, record, mark), handled in zip(items, done, strict=True):
            if handled:
                self._settle(record, mark)
        return done

    async def alone(self, item: _Item) -> None:
        """Handle one."""
        taken, record, mark = item
        await self._handle(taken)
        self._settle(record, mark)

    def _put_poison(self, record: Record, mark: Watermark, problem: Exception) -> None:
        at = self._clock.now()
        why = problem if isinstance(problem, InvalidEventError) else InvalidEventError(f"cannot be read: {problem!r}")
        self._put(f"poison {record.topic} {record.partition}", record, mark, lambda: self._poison(record, why, at))

    async def _step_over(self, broken: UndecodableBatch) -> None:
        """Go on behind a batch nobody can decode, with one dead letter that names its offsets."""
        last = Record(
            broken.place.topic, broken.place.partition, broken.next_offset - 1, self._clock.now(), None, None, ()
        )
        try:
            await self.subscription.skip(broken.place, broken.next_offset)
        except TransientError as problem:
            self._log.info("skip_failed", reason=str(problem), note="another member has the partition now")
            await asyncio.sleep(1.0)
            return
        if mark := self._marks.get(broken.place):
            mark.take(last.offset)
            self.in_flight += 1
            self._put_poison(last, mark, InvalidEventError(str(broken)))

    def _put(self, lane: str, record: Record, mark: Watermark, work: Callable[[], Awaitable[None]]) -> None:
        async def item() -> None:
            await work()
            self._settle(record, mark)

        self._lanes.put(lane, item)

    def _settle(self, record: Record, mark: Watermark) -> None:
        self.in_flight -= 1
        self.settled += 1
        self._since_commit += 1
        mark.settle(record.offset)
        self._flow()

    def hold(self, held: bool) -> None:  # noqa: FBT001  # a switch
        """Take nothing while held; what is in flight goes on."""
        self._held = held
        if self._subscription is not None:
            self._flow()

    def _flow(self) -> None:
        """Pause when too much is in flight, resume when half of it is gone; the backlog stays visible as lag."""
        if not self._paused and (self._held or self.in_flight >= self._max_in_flight):
            self._paused = True
            self.subscription.pause(self.subscription.assignment())
        elif self._paused and not self._held and self.in_flight <= self._max_in_flight // 2:
            self._paused = False
            self.subscription.resume(self.subscription.assignment())

    async def commit_if_due(self) -> None:
        """Commit every 200 ms or 500 settled records."""
        now = self._clock.monotonic()
        if self._since_commit >= COMMIT_RECORDS or now - self._committed_at >= COMMIT_SECONDS:
            self._committed_at = now
            await self.commit(self._marks)

    async def commit(self, places: Collection[TopicPartition]) -> None:
        """Commit the watermark of these partitions.

        One at a time: a client that tries an earlier commit again would else undo a later one.
        """
        async with self._committing:
            await self._commit(places)

    async def _commit(self, places: Collection[TopicPartition]) -> None:
        self._since_commit = 0
        marks = {place: self._marks[place] for place in places if place in self._marks}
        offsets = {place: offset for place, mark in marks.items() if (offset := mark.to_commit()) is not None}
        if not offsets:
            return
        try:
            await self.subscription.commit(offsets)
        except TransientError as problem:
            self._log.info("commit_failed", reason=str(problem), note="the records come again and are recognised")
            return
        for place, offset in offsets.items():
            if mark := self._marks.get(place):
                mark.committed(offset)

    async def revoked(self, places: Collection[TopicPartition]) -> None:
        """Commit what is settled and forget these partitions; what is still in a lane settles into the void."""
        if self._subscription is not None:
            await self.commit([place for place in places if place in self._marks])
        for place in places:
            self._marks.pop(place, None)

    async def assigned(self, places: Collection[TopicPartition]) -> None:
        """Start anew with these."""
        self.belongs = True
        for place in places:
            self._marks[place] = Watermark()
        if self._subscription is None:
            return
        # what was paused when it was taken away must not stay so for ever
        (self._subscription.pause if self._paused else self._subscription.resume)(places)

    async def lag(self) -> int:
        """Count the records behind the committed offsets of what this member holds."""
        return sum((await self.subscription.lag()).values())

    async def caught_up(self) -> None:
        """Wait until everything that lay on the topics when this was called has been settled."""
        ends = await self._bus.end_offsets(self._topics)
        while True:
            held = self.subscription.assignment()
            committed = await self._bus.committed(self._group, self._topics)
            behind = {place for place, end in ends.items() if place in held and committed.get(place, 0) < end}
            lag = await self.subscription.lag() if behind else {}
            if not any(lag.get(place) for place in behind):
                return  # what retention took before anybody read it is never committed, and is no lag either
            await self.commit_if_due()
            await asyncio.sleep(0.05)

    def stop_taking(self) -> None:
        """Take no further records."""
        self._taking = False

    async def close(self) -> None:
        """Commit the rest and leave the group."""
        if self._subscription is not None:
            await self.commit(list(self._marks))
            await self._subscription.close()
