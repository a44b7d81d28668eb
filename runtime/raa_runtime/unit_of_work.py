"""One event, one conditional write: load, decide, write, publish; again from the start when the race was lost."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar

from raa_runtime.bus.port import Bus, Message
from raa_runtime.clock import Clock
from raa_runtime.deadletters import DeadLetter
from raa_runtime.errors import AlreadyHandled, DependencyUnavailable, PublishRefused, TransientError
from raa_runtime.guard import outcome_of, result_of
from raa_runtime.known import Cache, Ended, Known, Published
from raa_runtime.scope import scope_of
from raa_runtime.state.aggregate import SEEN_KEPT, Activity, Aggregate, Entry
from raa_runtime.state.codec import Kind, decode, encode
from raa_runtime.state.commit import GroupCommit
from raa_runtime.state.port import Document, DocumentStore, Outcome, Write
from raa_runtime.telemetry import Logger
from raa_runtime.unit import Received, Unit
from raa_schemas.envelope import InvalidEventError
from raa_schemas.ids import AggregateId, owned, tenant_of
from raa_schemas.topics import dead_letter_topic

Cause = Literal["event", "completed", "wake", "command"]
Decide = Callable[[Unit[Any]], None]
T = TypeVar("T")
OUTBOX_CHECK_SECONDS: Final = 15.0
SHRINK_SECONDS: Final = 5.0
ACTIVITY_GRACE_SECONDS: Final = 15.0
LONGEST_BACKOFF_SECONDS: Final = 60.0
BUS_PATIENCE_SECONDS: Final = 1.0
LATE_SECONDS: Final = 30.0
_RACES: Final = 20


@dataclass(slots=True)
class Address:
    """Which aggregate a unit is about, and what is needed to create it."""

    kind: Kind[Any]
    id: str
    task_id: str
    partition: int | None = None


class Turns(Protocol):
    """The order of the units of one aggregate: its lane."""

    def let_pass(self, task: "asyncio.Task[Any] | None") -> None:
        """Let outcomes of activities pass the unit this task runs: it is stored, and waits for the bus."""
        ...

    async def go_on(self) -> None:
        """Let nobody pass the running unit any more, and wait for those who are at it."""
        ...


class Late:
    """The partitions on which the bus has lately been slow to take something."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[int | None, float] = {}

    def note(self, partition: int | None) -> None:
        """Note one, for half a minute."""
        self._until[partition] = self._clock.monotonic() + LATE_SECONDS

    def apart(self, partition: int | None) -> int | None:
        """Name the convoys a unit of this partition travels with: its own while it is slow, else those of all."""
        if self._until and self._until.get(partition, 0.0) > self._clock.monotonic():
            return partition
        return None


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
    ended: Ended = field(default_factory=Ended)
    turns: Turns | None = None
    late: Late = field(init=False)

    def __post_init__(self) -> None:
        self._commit = GroupCommit(self.store)
        self.late = Late(self.clock)
        self._write_ids = itertools.count(1)
        self.publishing: dict[str, asyncio.Event] = {}
        self._unknown: dict[tuple[str, str], tuple[Unit[Any], Sequence[str]]] = {}

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
            known = self.cache.take(at.kind.name, at.id)
            unit, gone = self.unit_of(at, known.aggregate, known.gone) if known else await self._load(at)
            if event is not None:
                await self._refuse_duplicate(unit, event, known)
            problem = unit.aggregate.unreadable if not header_only else None
            self.begin(unit, event)
            problem = problem or result_of(decide, unit)
            if (problem or unit.ignored is not None) and known:
                continue  # another process may know better
            if problem:
                raise problem
            if unit.ignored is not None:
                await self._catch_up(unit)
                return unit
            write = self.prepare(unit, cause, event)
            [outcome] = await self.commit_all([(unit, gone, write)])
            if isinstance(outcome, Exception):
                raise outcome
            if outcome == "stored":
                self.after(unit, gone)
                await self.publish(unit.aggregate)
                self.keep(unit, len(write.encoded))
                return unit
        raise TransientError(f"{at.id}: lost the race for its document {_RACES} times")

    async def _load(self, at: Address) -> tuple[Unit[Any], list[str]]:
        return self.read(at, await self.store.find(scope_of(at.id), at.kind.name, at.id))

    def read(self, at: Address, document: Document | None) -> tuple[Unit[Any], list[str]]:
        """Make a unit of a stored document, or of a new aggregate, and name the entries that leave its outbox.

        What this process knows to be on the bus leaves with the next write.
        """
        self._learn(at, document)
        if document is None:
            aggregate = Aggregate(
                AggregateId(at.id),
                tenant_of(at.id),
                at.task_id,
                at.kind.state(),
                partition=at.partition,
                state_schema=at.kind.schema,
            )
            return self.unit_of(at, aggregate, [])
        aggregate = decode(at.kind, document)
        gone = [entry.event_id for entry in aggregate.outbox if entry.event_id in self.published]
        aggregate.outbox = [entry for entry in aggregate.outbox if entry.event_id not in self.published]
        return self.unit_of(at, aggregate, gone)

    def unit_of(self, at: Address, aggregate: Aggregate[Any], gone: list[str]) -> tuple[Unit[Any], list[str]]:
        """Make a unit of an aggregate in memory."""
        newest = aggregate.seen[-1][0] if aggregate.seen else None
        unit = Unit(at.kind, aggregate, self.clock.now(), self.service, self.deployment, self.owner, cause_id=newest)
        return unit, gone

    async def _refuse_duplicate(self, unit: Unit[Any], event: Received[Any], known: Known | None) -> None:
        for seen, digest in unit.aggregate.seen:
            if seen == event.id:
                if digest != event.digest:
                    raise InvalidEventError(f"event {event.id} came again with another content; ids must be unique")
                if known:  # what this process wrote, it also finished
                    self.cache.put(unit.kind.name, known)
                else:
                    await self._catch_up(unit)
                raise AlreadyHandled(event.id)

    def begin(self, unit: Unit[Any], event: Received[Any] | None) -> None:
        """Note what led to this unit."""
        if event is not None:
            unit.cause_id = event.id
            if unit.is_new:
                unit.take_context(event)

    def prepare(self, unit: Unit[Any], cause: Cause, event: Received[Any] | None) -> Write:
        """Encode what was decided as a conditional write; raises AggregateTooLarge."""
        aggregate, now = unit.aggregate, unit.now.timestamp()
        if event is not None:
            aggregate.seen = [*aggregate.seen, (event.id, event.digest)][-SEEN_KEPT:]
        aggregate.wake_at = wake_time(aggregate, cause, now)
        if aggregate.tombstone:
            aggregate.wake_at = now + self.remember_seconds  # only to be forgotten
        aggregate.write_id = f"{self.owner}/{next(self._write_ids)}"
        aggregate.updated_at = now
        return encode(unit.kind, aggregate)

    async def commit_all(self, prepared: Sequence[tuple[Unit[Any], Sequence[str], Write]]) -> list[Outcome | Exception]:
        """Store what was prepared, with what others write now; one entry per write.

        A unit and what leaves its outbox are remembered after an unknown reply, until its aggregate is loaded again.
        """
        outcomes = await self._commit.write_all([write for _, _, write in prepared])
        for (unit, gone, write), outcome in zip(prepared, outcomes, strict=True):
            if isinstance(outcome, DependencyUnavailable):
                self._unknown[write.kind, unit.id] = unit, gone
        return outcomes

    def _learn(self, at: Address, document: Document | None) -> None:
        """Do what follows a write whose reply got lost, if it turns out that it was stored."""
        unit, gone = self._unknown.pop((at.kind.name, at.id), (None, ()))
        if unit is not None and document is not None and document["write_id"] == unit.aggregate.write_id:
            self.after(unit, gone)

    def after(self, unit: Unit[Any], gone: Sequence[str]) -> None:
        """Do what follows a stored write and needs no waiting; `gone` has left the outbox with it."""
        unit.aggregate.version += 1
        if unit.id not in self.publishing:  # else somebody may have it in hand
            for event_id in gone:
                self.published.discard(event_id)
        self._launch_own(unit)
        for name in unit.stopped:
            self.stop(unit.kind.name, unit.id, name)
        if unit.aggregate.unreadable is None:
            for observe in self.observers:
                observe(unit.kind, unit)

    def keep(self, unit: Unit[Any], size: int) -> None:
        """Remember an aggregate whose outbox is out; its entries leave with the next write."""
        aggregate = unit.aggregate
        if aggregate.tombstone or aggregate.unreadable is not None:
            return
        gone = [entry.event_id for entry in aggregate.outbox]
        aggregate.outbox = []
        self.cache.put(unit.kind.name, Known(aggregate, gone, size))
        self.ended.add(unit.kind.name, aggregate, size)

    async def shrink(self) -> None:
        """Make tombstones of what this process ended, many at once; what that fails for is left to its wake."""
        for kind, versions in self.ended.take():
            forget_at = self.clock.now().timestamp() + self.remember_seconds
            problem = await outcome_of(self.store.shrink, kind, versions, forget_at)
            if isinstance(problem, Exception):
                self.log.info("shrinking_failed", kind=kind, aggregates=len(versions), reason=str(problem))
                continue
            for aggregate, version in versions.items():
                self._forget(kind, aggregate, version)

    def _forget(self, kind: str, aggregate: str, version: int) -> None:
        """Drop from memory what was shrunk, unless it was written meanwhile; no outbox holds its events any more."""
        seen = self.cache.look(kind, aggregate)
        if seen is not None and seen.version == version and (known := self.cache.take(kind, aggregate)):
            for event_id in known.gone:
                self.published.discard(event_id)

    async def _catch_up(self, unit: Unit[Any]) -> None:
        """Do what follows a write that was stored although its reply got lost, or whose process ended after it."""
        self._launch_own(unit)
        await self.publish(unit.aggregate)

    def _launch_own(self, unit: Unit[Any]) -> None:
        """Launch every intent of this process; those under way are not launched again, nor those with an outcome."""
        if unit.aggregate.quarantined:
            return
        for activity in list(unit.aggregate.activities.values()):
            if activity.owner == self.owner and activity.kept is None:
                self.launch(unit.kind.name, unit.aggregate, activity)

    async def publish(self, aggregate: Aggregate[Any]) -> None:
        """Publish what the outbox still holds, oldest first; returns only when all of it is durable or refused."""
        if any(entry.event_id not in self.published for entry in aggregate.outbox):
            await self.patiently(self._in_turn, aggregate)

    async def patiently(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Wait for the bus in the aggregate's lane, and after a second let outcomes of activities pass.

        While the bus is away they would else lie in memory, and a `once` activity that has ended would be unknown to
        whoever comes after this process. They are stored with the outbox as it is, and published in their turn.
        """
        turns = self.turns
        if turns is None:
            return await work(*args)
        late = asyncio.get_running_loop().call_later(BUS_PATIENCE_SECONDS, turns.let_pass, asyncio.current_task())
        try:
            return await work(*args)
        finally:
            late.cancel()
            await turns.go_on()

    async def _in_turn(self, aggregate: Aggregate[Any]) -> None:
        while ahead := self.publishing.get(aggregate.id):
            await ahead.wait()
        done = self.publishing[aggregate.id] = asyncio.Event()
        try:
            await self._publish([entry for entry in aggregate.outbox if entry.event_id not in self.published])
        finally:
            del self.publishing[aggregate.id]
            done.set()

    async def _publish(self, waiting: Sequence[Entry]) -> None:
        pause = 0.1
        while waiting:
            verdicts = await self.bus.publish([message_of(entry) for entry in waiting])
            done = 0
            for entry, verdict in zip(waiting, verdicts, strict=True):
                if isinstance(verdict, PublishRefused):
                    await self._bury(entry, verdict)
                elif verdict is not None:
                    self.log.warning("publish_failed", topic=entry.topic, reason=str(verdict))
                    break
                self.published.add(entry.event_id)
                done += 1
            waiting = waiting[done:]
            if waiting:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _bury(self, entry: Entry, refused: PublishRefused) -> None:
        now = self.clock.now()
        message = message_of(entry)
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
        await self._send([letter.message(self.deployment), *letter.stalled_by_headers(self.deployment)])

    async def bury(self, letter: DeadLetter, *more: Message) -> None:
        """Put a dead letter (and what else must go out with it) on the bus; waits until it is durable."""
        await self.send([letter.message(self.deployment), *more])

    async def send(self, messages: Sequence[Message]) -> None:
        """Publish until durable; what the bus refuses for good is logged, because there is nowhere left to put it."""
        await self.patiently(self._send, messages)

    async def _send(self, messages: Sequence[Message]) -> None:
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


def message_of(entry: Entry) -> Message:
    """Make an entry of an outbox a message."""
    headers = tuple([(name, value.encode()) for name, value in entry.headers])
    return Message(entry.topic, entry.key.encode(), entry.value.encode(), headers)
