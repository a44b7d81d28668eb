"""One event, one conditional write: load, decide, write, publish; again from the start when the race was lost."""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic_core import from_json

from raa_runtime.bus.port import Bus, Message
from raa_runtime.clock import Clock
from raa_runtime.deadletters import DeadLetter
from raa_runtime.errors import AlreadyHandled, PublishRefused, TransientError
from raa_runtime.guard import result_of
from raa_runtime.scope import scope_of
from raa_runtime.state.aggregate import SEEN_KEPT, Activity, Aggregate, Entry
from raa_runtime.state.codec import Kind, decode, encode
from raa_runtime.state.commit import GroupCommit
from raa_runtime.state.port import DocumentStore
from raa_runtime.telemetry import Logger
from raa_runtime.unit import Received, Unit
from raa_schemas.envelope import InvalidEventError
from raa_schemas.ids import AggregateId, owned, tenant_of
from raa_schemas.topics import dead_letter_topic

Cause = Literal["event", "completed", "wake", "command"]
Decide = Callable[[Unit[Any]], None]
OUTBOX_CHECK_SECONDS: Final = 15.0
SHRINK_SECONDS: Final = 5.0
ACTIVITY_GRACE_SECONDS: Final = 15.0
LONGEST_BACKOFF_SECONDS: Final = 60.0
_RACES: Final = 20
_CACHE_BYTES: Final = 4 * 1024 * 1024
_PUBLISHED_KEPT: Final = 100_000


class Cache:
    """Documents as this process last wrote them. A stale one costs a lost race, never a wrong write."""

    def __init__(self) -> None:
        self._documents: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, kind: str, aggregate: str) -> bytes | None:
        """Give the encoded document."""
        return self._documents.get((kind, aggregate))

    def put(self, kind: str, aggregate: str, encoded: bytes) -> None:
        """Keep a document and drop the oldest beyond the bound."""
        self.drop(kind, aggregate)
        self._documents[kind, aggregate] = encoded
        self._bytes += len(encoded)
        while self._bytes > _CACHE_BYTES:
            self._bytes -= len(self._documents.popitem(last=False)[1])

    def drop(self, kind: str, aggregate: str) -> None:
        """Forget a document."""
        self._bytes -= len(self._documents.pop((kind, aggregate), b""))


class Published:
    """Ids of events this process knows to be durable on the bus."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, event_id: str) -> None:
        """Note one."""
        self._ids[event_id] = None
        if len(self._ids) > _PUBLISHED_KEPT:
            self._ids.popitem(last=False)

    def discard(self, event_id: str) -> None:
        """Forget one that no outbox holds any more."""
        self._ids.pop(event_id, None)

    def __contains__(self, event_id: str) -> bool:
        """Say whether it is known."""
        return event_id in self._ids


@dataclass(slots=True)
class Address:
    """Which aggregate a unit is about, and what is needed to create it."""

    kind: Kind[Any]
    id: str
    task_id: str
    partition: int | None = None


@dataclass
class UnitOfWork:
    """Run units of one service. `launch` and `stop` reach the activities of this process."""

    service: str
    deployment: str
    owner: str
    store: DocumentStore
    bus: Bus
    clock: Clock
    log: Logger
    launch: Callable[[str, Aggregate[Any], Activity], None]
    stop: Callable[[str, str, str], None]
    observers: Sequence[Callable[[Kind[Any], Unit[Any]], None]] = ()
    remember_seconds: float = 8 * 86_400
    published: Published = field(default_factory=Published)
    cache: Cache = field(default_factory=Cache)

    def __post_init__(self) -> None:
        self._commit = GroupCommit(self.store)
        self._write_ids = itertools.count(1)

    async def run(
        self,
        at: Address,
        decide: Decide,
        cause: Cause,
        event: Received[Any] | None = None,
        *,
        header_only: bool = False,
    ) -> Unit[Any]:
        """Decide on one aggregate and make the decision durable, then publish what it says.

        `decide` may be called several times, each time on a fresh copy. Raises what `decide` raises,
        DependencyUnavailable when the store is away (then nothing is known to be stored), AlreadyHandled for a
        duplicate whose outbox is out. A state that cannot be read raises why, unless `decide` needs the header only.
        """
        for _ in range(_RACES):
            unit, cached, gone = await self._load(at)
            if event is not None:
                await self._refuse_duplicate(unit, event, cached=cached)
            problem = unit.aggregate.unreadable if not header_only else None
            problem = problem or result_of(lambda: decide(unit))  # noqa: B023  # called here and now
            if (problem or unit.ignored is not None) and cached:
                self.cache.drop(at.kind.name, at.id)  # another process may know better
                continue
            if problem:
                raise problem
            if unit.ignored is not None:
                await self._catch_up(unit)
                return unit
            if await self._store(unit, cause, event):
                for event_id in gone:
                    self.published.discard(event_id)
                await self._after(unit)
                return unit
        raise TransientError(f"{at.id}: lost the race for its document {_RACES} times")

    async def _load(self, at: Address) -> tuple[Unit[Any], bool, list[str]]:
        gone: list[str] = []
        encoded = self.cache.get(at.kind.name, at.id)
        document = from_json(encoded) if encoded else await self.store.find(scope_of(at.id), at.kind.name, at.id)
        if document is None:
            aggregate = Aggregate(
                AggregateId(at.id),
                tenant_of(at.id),
                at.task_id,
                at.kind.state(),
                partition=at.partition,
                state_schema=at.kind.schema,
            )
        else:
            aggregate = decode(at.kind, document)
            # What this process knows to be on the bus leaves with the next write.
            gone = [entry.event_id for entry in aggregate.outbox if entry.event_id in self.published]
            aggregate.outbox = [entry for entry in aggregate.outbox if entry.event_id not in self.published]
        newest = aggregate.seen[-1][0] if aggregate.seen else None
        unit = Unit(at.kind, aggregate, self.clock.now(), self.service, self.deployment, self.owner, cause_id=newest)
        return unit, encoded is not None, gone

    async def _refuse_duplicate(self, unit: Unit[Any], event: Received[Any], *, cached: bool) -> None:
        for seen, digest in unit.aggregate.seen:
            if seen == event.id:
                if digest != event.digest:
                    raise InvalidEventError(f"event {event.id} came again with another content; ids must be unique")
                if cached:  # what this process wrote, it also finished
                    await self.publish(unit.aggregate)
                else:
                    await self._catch_up(unit)
                raise AlreadyHandled(event.id)
        unit.cause_id = event.id
        if unit.is_new:
            unit.take_context(event)

    async def _store(self, unit: Unit[Any], cause: Cause, event: Received[Any] | None) -> bool:
        aggregate = unit.aggregate
        if event is not None:
            aggregate.seen = [*aggregate.seen, (event.id, event.digest)][-SEEN_KEPT:]
        aggregate.wake_at = wake_time(aggregate, cause, unit.now.timestamp())
        if aggregate.tombstone:
            aggregate.wake_at = unit.now.timestamp() + self.remember_seconds  # only to be forgotten
        aggregate.write_id = f"{self.owner}/{next(self._write_ids)}"
        aggregate.updated_at = unit.now.timestamp()
        write = encode(unit.kind, aggregate)
        self.cache.drop(unit.kind.name, unit.id)
        if await self._commit.write(write) == "lost":
            return False
        aggregate.version += 1
        if not aggregate.tombstone:
            self.cache.put(unit.kind.name, unit.id, write.encoded)
        return True

    async def _after(self, unit: Unit[Any]) -> None:
        self._launch_own(unit)
        for name in unit.stopped:
            self.stop(unit.kind.name, unit.id, name)
        if unit.aggregate.unreadable is None:
            for observe in self.observers:
                observe(unit.kind, unit)
        await self.publish(unit.aggregate)

    async def _catch_up(self, unit: Unit[Any]) -> None:
        """Do what follows a write that was stored although its reply got lost, or whose process ended after it."""
        self._launch_own(unit)
        await self.publish(unit.aggregate)

    def _launch_own(self, unit: Unit[Any]) -> None:
        """Launch every intent of this process; those under way are not launched again."""
        if unit.aggregate.quarantined:
            return
        for activity in list(unit.aggregate.activities.values()):
            if activity.owner == self.owner:
                self.launch(unit.kind.name, unit.aggregate, activity)

    async def publish(self, aggregate: Aggregate[Any]) -> None:
        """Publish what the outbox still holds, oldest first; returns only when all of it is durable or refused."""
        waiting = [entry for entry in aggregate.outbox if entry.event_id not in self.published]
        pause = 0.1
        while waiting:
            verdicts = await self.bus.publish([_message(entry) for entry in waiting])
            for entry, verdict in zip(list(waiting), verdicts, strict=True):
                if isinstance(verdict, PublishRefused):
                    await self._bury(entry, verdict)
                elif verdict is not None:
                    self.log.warning("publish_failed", topic=entry.topic, reason=str(verdict))
                    break
                self.published.add(entry.event_id)
                waiting.remove(entry)
            if waiting:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _bury(self, entry: Entry, refused: PublishRefused) -> None:
        now = self.clock.now()
        message = _message(entry)
        letter = DeadLetter(
            "outbox",
            self.service,
            entry.topic,
            -1,
            -1,
            message.key,
            message.value,
            message.headers,
            refused,
            1,
            now,
            now,
        )
        self.log.error("outbox_dead_letter", topic=entry.topic, event_id=entry.event_id, reason=str(refused))
        await self.bury(letter, *letter.stalled_by_headers(self.deployment))

    async def bury(self, letter: DeadLetter, *more: Message) -> None:
        """Put a dead letter (and what else must go out with it) on the bus; waits until it is durable."""
        await self.send([letter.message(self.deployment), *more])

    async def send(self, messages: Sequence[Message]) -> None:
        """Publish until durable; what the bus refuses for good is logged, because there is nowhere left to put it."""
        pause = 0.1
        while True:
            verdicts = await self.bus.publish(messages)
            refused = [verdict for verdict in verdicts if isinstance(verdict, PublishRefused)]
            for verdict in refused:
                self.log.critical(
                    "publish_refused",
                    reason=str(verdict),
                    hint=f"create {owned(self.deployment, dead_letter_topic(self.service))}",
                )
            messages = [
                message
                for message, verdict in zip(messages, verdicts, strict=True)
                if verdict is not None and verdict not in refused
            ]
            if not messages:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def wake_time(aggregate: Aggregate[Any], cause: Cause, now: float) -> float | None:
    """Find the earliest of an aggregate's timers, as architecture section 5 demands it of each cause."""
    if aggregate.tombstone:
        return None
    if aggregate.quarantined:
        return now + OUTBOX_CHECK_SECONDS if aggregate.outbox and cause != "event" else None
    times = list(aggregate.timers.values())
    times += [
        now if activity.kept else activity.deadline + ACTIVITY_GRACE_SECONDS
        for activity in aggregate.activities.values()
    ]
    times += [aggregate.deferred[0].due] if aggregate.deferred else []
    if aggregate.closed:
        times.append(now + SHRINK_SECONDS)
    elif aggregate.outbox and cause != "event":
        times.append(now + OUTBOX_CHECK_SECONDS)
    if not times:
        return None
    # A wake that failed, or that ended the process, comes back later each time.
    backoff = min(2.0**aggregate.wake_tries, LONGEST_BACKOFF_SECONDS) if aggregate.wake_tries else 0.0
    return max(min(times), now + backoff)


def _message(entry: Entry) -> Message:
    headers = tuple((name, value.encode()) for name, value in entry.headers)
    return Message(entry.topic, entry.key.encode(), entry.value.encode(), headers)
