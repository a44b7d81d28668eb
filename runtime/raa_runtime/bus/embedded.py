"""The bus of the embedded mode: a durable partitioned log in SQLite, with groups and rebalances in this process."""

import asyncio
import sqlite3
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

from raa_runtime.bus.log import Log
from raa_runtime.bus.port import Message, Rebalance, Record, TopicPartition, TopicSpec
from raa_runtime.errors import DependencyUnavailable, Misconfigured, PublishRefused, TransientError
from raa_runtime.guard import outcome_of
from raa_schemas.topics import MAX_MESSAGE_BYTES

T = TypeVar("T")
_RECENT_BYTES: Final = 8 * 1024 * 1024
_MAX_BATCH: Final = 1_000
_PRUNE_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 5.0
# what Python adds to the bytes of a record, and of one header
_RECORD_BYTES: Final = 400
_HEADER_BYTES: Final = 170


class Signal:
    """Wake everybody who waits, each time something was appended."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def fire(self) -> None:
        """Wake the waiters."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_seconds: float) -> None:
        """Wait for the next firing, at most so long."""
        event = self._event
        try:
            async with asyncio.timeout(timeout_seconds):
                await event.wait()
        except TimeoutError:
            return


class Recent:
    """The newest records in memory, so that a reader that keeps up never touches the file.

    Bounded by the memory they take, of which small records make more by their headers than by their values.
    """

    def __init__(self) -> None:
        self._by_place: dict[TopicPartition, deque[Record]] = defaultdict(deque)
        self._order: deque[TopicPartition] = deque()
        self._bytes = 0

    def add(self, records: Sequence[Record]) -> None:
        """Keep records and drop the oldest beyond the bound."""
        for record in records:
            place = record.place
            self._by_place[place].append(record)
            self._order.append(place)
            self._bytes += _size(record)
        while self._bytes > _RECENT_BYTES:
            oldest = self._by_place[self._order.popleft()].popleft()
            self._bytes -= _size(oldest)

    def read(self, place: TopicPartition, offset: int, limit: int) -> list[Record] | None:
        """Give records from an offset on, None when that is older than what is kept, or too new to be kept yet.

        The writer's thread moves the end of the log a moment before its records come in here.
        """
        kept = self._by_place.get(place)
        if not kept or not kept[0].offset <= offset <= kept[-1].offset:
            return None
        start = offset - kept[0].offset
        return [kept[index] for index in range(start, min(len(kept), start + limit))]


def _size(record: Record) -> int:
    return _RECORD_BYTES + len(record.value or b"") + _HEADER_BYTES * len(record.headers)


class EmbeddedBus:
    """A `Bus` for one process that owns the data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "bus.sqlite"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-bus")
        self._recent = Recent()
        self._groups: dict[str, list[EmbeddedSubscription]] = defaultdict(list)
        self._waiting: list[tuple[Sequence[Message], asyncio.Future[None]]] = []
        self._commits: dict[str, dict[TopicPartition, int]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._dealing: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._pruned_at = monotonic()
        self._retry: asyncio.TimerHandle | None = None
        self.appended = Signal()

    async def start(self) -> None:
        """Open the log."""
        try:
            self._log = await asyncio.get_running_loop().run_in_executor(self._thread, Log, self._path)
        except (sqlite3.Error, OSError) as problem:
            raise DependencyUnavailable(f"{self._path}: {problem}; check the folder's space and permissions") from None

    async def stop(self) -> None:
        """Write what waits and close the log; a disk that does not answer costs 10 seconds, never more."""
        if self._retry:
            self._retry.cancel()
        if self._writing:
            await asyncio.wait([self._writing], timeout=_STOP_SECONDS)
        await outcome_of(lambda: asyncio.wait_for(self._in_thread(self._log.close), _STOP_SECONDS))
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as problem:
            raise DependencyUnavailable(f"{self._path}: {problem}") from None

    async def publish(self, messages: Sequence[Message], *, patience: float | None = None) -> list[Exception | None]:
        """Append what can be appended, in one durable transaction together with what others publish now."""
        verdicts = [self._refusal(message) for message in messages]
        accepted = [message for message, refused in zip(messages, verdicts, strict=True) if refused is None]
        if not accepted:
            return verdicts
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((accepted, done))
        self._write_soon()
        await asyncio.wait([done], timeout=patience)
        problem = done.exception() if done.done() else DependencyUnavailable("the log has not been written in time")
        if problem is None:
            return verdicts
        if not isinstance(problem, TransientError):
            raise problem
        return [refused or problem for refused in verdicts]

    def _refusal(self, message: Message) -> Exception | None:
        if message.topic not in self._log.partitions:
            return PublishRefused(f"there is no topic {message.topic!r}; create it with `raa topics apply`")
        if len(message.value) + len(message.key) > MAX_MESSAGE_BYTES:
            return PublishRefused(f"a record of {len(message.value)} bytes is too large for {message.topic!r}")
        return None

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="embedded-bus-writer")

    async def _write_all(self) -> None:
        try:
            while self._waiting or self._commits:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                commits, self._commits = self._commits, {}
                if not await self._write(batch, commits):
                    self._put_back(commits)
                    if not self._waiting:
                        break
                await self._prune_if_due()  # here, because what comes meanwhile has to be written after it
        finally:
            self._writing = None

    def _put_back(self, commits: dict[str, dict[TopicPartition, int]]) -> None:
        """Keep offsets that could not be stored, unless newer ones came meanwhile, and try again a little later."""
        for group, offsets in commits.items():
            self._commits[group] = offsets | self._commits.get(group, {})
        if self._retry is None or self._retry.when() < asyncio.get_running_loop().time():
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._write_soon)

    async def _prune_if_due(self) -> None:
        if monotonic() - self._pruned_at > _PRUNE_SECONDS:
            self._pruned_at = monotonic()
            await outcome_of(lambda: self._in_thread(self._log.prune))

    async def _write(
        self, batch: list[tuple[Sequence[Message], asyncio.Future[None]]], commits: dict[str, dict[TopicPartition, int]]
    ) -> bool:
        messages = [message for accepted, _ in batch for message in accepted]
        records = await outcome_of(lambda: self._in_thread(lambda: self._log.write(messages, commits)))
        for _, done in batch:
            if done.done():
                continue
            if isinstance(records, Exception):
                done.set_exception(records)
            else:
                done.set_result(None)
        if isinstance(records, Exception):
            return False
        if records:
            self._recent.add(records)
            self.appended.fire()
        return True

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Store offsets with the next transaction; a crash before it only means redelivery."""
        self._commits.setdefault(group, {}).update(offsets)
        self._write_soon()

    async def flush(self) -> None:
        """Wait until everything handed over so far is on disk, or could not be written."""
        if self._writing is None:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((), done))
        await asyncio.wait([done])
        done.exception()

    def end(self, place: TopicPartition) -> int:
        """Give the next offset of a partition."""
        return self._log.ends.get(place, 0)

    def fetch(self, place: TopicPartition, offset: int, limit: int) -> list[Record]:
        """Read records of one partition from memory, or else from the file."""
        if offset >= self.end(place):
            return []
        recent = self._recent.read(place, offset, limit)
        if recent is not None:
            return recent
        try:
            return self._log.read(place, offset, limit)
        except sqlite3.Error as problem:
            raise DependencyUnavailable(f"{self._path}: {problem}") from None

    async def subscribe(self, group: str, topics: Sequence[str], rebalance: Rebalance) -> "EmbeddedSubscription":
        """Join a group; every member's partitions are dealt out anew."""
        missing = [topic for topic in topics if topic not in self._log.partitions]
        if missing:
            raise DependencyUnavailable(f"there is no topic {missing[0]!r}; create it with `raa topics apply`")
        member = EmbeddedSubscription(self, group, topics, rebalance)
        self._groups[group].append(member)
        await self.rebalance(group)
        return member

    async def leave(self, member: "EmbeddedSubscription") -> None:
        """Leave a group."""
        await self.flush()
        if member in self._groups[member.group]:
            self._groups[member.group].remove(member)
            await self.rebalance(member.group)

    async def rebalance(self, group: str) -> None:
        """Revoke everything from everybody, then deal partitions out by range per topic, as Kafka clients do."""
        async with self._dealing[group]:  # one at a time, or two members hold one partition
            members = list(self._groups[group])
            for member in members:
                await member.revoke()
            await self.flush()
            for index, member in enumerate(members):
                held = [
                    TopicPartition(topic, part)
                    for topic in member.topics
                    for part in _range_share(self._log.partitions[topic], index, len(members))
                ]
                await member.assign(held, self._log.offsets.get(group, {}) | self._commits.get(group, {}))

    async def read(self, topics: Sequence[str], *, from_beginning: bool, follow: bool) -> AsyncIterator[Record]:
        """Read as an observer."""
        ends = await self.end_offsets(topics)
        positions = dict.fromkeys(ends, 0) if from_beginning else ends
        while True:
            for place in positions:
                while records := self.fetch(place, positions[place], _MAX_BATCH):
                    for record in records:
                        positions[place] = record.offset + 1
                        yield record
                    await asyncio.sleep(0)  # a long log must not stop everybody else
            if not follow:
                return
            await self.appended.wait(1.0)

    async def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give the next offset of each partition."""
        return {place: end for place, end in self._log.ends.items() if place.topic in topics}

    async def committed(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give a group's offsets."""
        await self.flush()
        stored = self._log.offsets.get(group, {})
        return {place: end for place, end in stored.items() if place.topic in topics}

    async def apply_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create missing topics."""
        return await self._in_thread(lambda: self._log.create(specs))

    async def topics(self) -> dict[str, int]:
        """Give the topics there are."""
        return dict(self._log.partitions)

    async def times(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, datetime]:
        """Give the time of the first record at or behind each offset."""
        found = {place: self.fetch(place, offset, 1) for place, offset in offsets.items()}
        return {place: records[0].timestamp for place, records in found.items() if records}

    async def groups(self) -> dict[str, int]:
        """Name the groups, with their members."""
        await self.flush()
        members = {group: len(members) for group, members in self._groups.items()}
        return dict.fromkeys(self._log.offsets, 0) | members

    async def grow(self, partitions: Mapping[str, int]) -> None:
        """Give topics more partitions; refused while a group has members here."""
        if present := [group for group, members in (await self.groups()).items() if members]:
            raise Misconfigured(f"{present[0]} still reads; stop what reads before keys move")
        await self._in_thread(lambda: self._log.grow(partitions))

    async def ping(self) -> None:
        """Try to write."""
        await self._in_thread(self._log.ping)


class EmbeddedSubscription:
    """One member of a group inside the owner process."""

    def __init__(self, bus: EmbeddedBus, group: str, topics: Sequence[str], rebalance: Rebalance) -> None:
        self.group = group
        self.topics = tuple(topics)
        self._bus = bus
        self._rebalance = rebalance
        self._positions: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    async def revoke(self) -> None:
        """Give up all partitions."""
        await self._rebalance.revoked(frozenset(self._positions))
        self._positions = {}

    async def assign(self, places: Collection[TopicPartition], committed: Mapping[TopicPartition, int]) -> None:
        """Start with these partitions at the group's offsets; a pause outlives this."""
        self._positions = {place: committed.get(place, 0) for place in places}
        self._committed = dict(self._positions)
        await self._rebalance.assigned(frozenset(places))

    async def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        """Fetch what is there, or wait for it."""
        signal = self._bus.appended
        if records := self._fetch(max_records):
            return records
        await signal.wait(timeout_seconds)
        return self._fetch(max_records)

    def _fetch(self, max_records: int) -> list[Record]:
        """Read on, and move all positions or none: what was read before a place that cannot be read is not lost."""
        records: list[Record] = []
        moved: dict[TopicPartition, int] = {}
        for place, position in self._positions.items():
            if place in self._paused or len(records) >= max_records:
                continue
            end = self._bus.end(place)  # before the records: the writer's thread may add some at any moment
            fetched = self._bus.fetch(place, position, max_records - len(records))
            if fetched:
                moved[place] = fetched[-1].offset + 1
                records += fetched
            elif position < end:
                self._step_over(place, position, end)
        self._positions |= moved
        return records

    def _step_over(self, place: TopicPartition, position: int, end: int) -> None:
        """Go on behind records that were all pruned; with nothing else open they are settled, or they stay as lag."""
        self._positions[place] = end
        if self._committed[place] == position:
            self._committed[place] = end
            self._bus.commit(self.group, {place: end})

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit; partitions this member no longer holds are refused."""
        if not offsets.keys() <= self._positions.keys():
            raise TransientError("this member no longer holds all of these partitions")
        self._committed.update(offsets)
        self._bus.commit(self.group, offsets)

    def assignment(self) -> frozenset[TopicPartition]:
        """Name the held partitions."""
        return frozenset(self._positions)

    def pause(self, places: Collection[TopicPartition]) -> None:
        """Fetch nothing of these."""
        self._paused.update(places)

    def resume(self, places: Collection[TopicPartition]) -> None:
        """Fetch these again."""
        self._paused.difference_update(places)
        self._bus.appended.fire()

    async def skip(self, place: TopicPartition, offset: int) -> None:
        """Go on at this offset."""
        self._positions[place] = offset

    async def lag(self) -> dict[TopicPartition, int]:
        """Count what lies behind the committed offsets."""
        ends = await self._bus.end_offsets([place.topic for place in self._positions])
        return {place: ends[place] - self._committed[place] for place in self._positions}

    async def close(self) -> None:
        """Leave the group."""
        await self._bus.leave(self)


def _range_share(partitions: int, index: int, members: int) -> range:
    """Give a member its share as Kafka's range assignor does: the first ones get one more."""
    size, extra = divmod(partitions, members)
    start = index * size + min(index, extra)
    return range(start, start + size + (index < extra))
