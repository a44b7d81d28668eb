"""What happens to an event, a completion, a wake or a command in its aggregate's lane, whatever goes wrong."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, TypeVar

from raa_runtime.away import Away
from raa_runtime.burial import Burial, Rejection
from raa_runtime.bus.port import Record
from raa_runtime.completions import DEFECT_TRIES, Completions
from raa_runtime.convoy import Job, run_together
from raa_runtime.deferral import pause_after, queue_behind
from raa_runtime.errors import (
    AlreadyHandled,
    NewerState,
    PermanentError,
    TooOld,
    TransientError,
    UnreadableState,
    is_permanent,
)
from raa_runtime.guard import outcome_of, result_of
from raa_runtime.intake import Addressed, read_body
from raa_runtime.lanes import Lanes
from raa_runtime.redrive import GroupIntake, Order, Taken
from raa_runtime.retries import Retries
from raa_runtime.revival import Revival
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import Aggregate
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Completed, E, Received, Unit
from raa_runtime.unit_of_work import Address, UnitOfWork
from raa_runtime.wakes import (
    CompletedHandler,
    Shrinking,
    TimerHandler,
    fire_timers,
    forget_ended,
    shrink,
    take_over,
    to_take_over,
)
from raa_schemas.cancel import CancelRequested
from raa_schemas.envelope import InvalidEventError

WAKE_TRIES: Final = 8
LEFT_SECONDS: Final = 30.0
REFUSED: Final = "refused: "
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class On(Generic[E]):
    """Which handler decides on an event, and on which aggregate."""

    event: type[E]
    kind: Kind[Any]
    handler: Callable[[Unit[Any], Received[E]], None]


@dataclass
class Dispatcher:
    """Run the work of one service in its lanes. Its methods for the consumer never raise."""

    service: str
    work: UnitOfWork
    lanes: Lanes
    intake: GroupIntake
    settings: ServiceSettings
    kinds: Mapping[str, Kind[Any]]
    on: Mapping[str, On[Any]]
    completed: Mapping[str, CompletedHandler]
    timers: Mapping[str, Mapping[str, TimerHandler]]
    dead: Callable[[], frozenset[str]]
    lives: Callable[[str], bool]
    rejections: Rejection | None = None
    count: Callable[[str, str], None] = lambda *_: None
    settled: Callable[[str, str, str, int], None] = lambda *_: None
    waking: set[tuple[str, str]] = field(default_factory=set)
    left: dict[tuple[str, str], float] = field(default_factory=dict)
    """aggregates that only a process of a newer release can wake, and until when they are not looked at again"""

    def __post_init__(self) -> None:
        self.away = Away(self.work.log)
        self.shrinking = Shrinking(self.work, self._claim, self._wake, self.waking)
        self.burial = Burial(self.service, self.work, self.intake, self.rejections, self.count)
        self.completions = Completions(
            self.work, self.away, self.burial, self.completed, self.settings.defer_tries, self.settled
        )
        self.retries = Retries(
            self.work, self.away, self.intake, self.burial, self._handle_deferred, self.settings.defer_tries
        )
        self.revival = Revival(
            self.burial, self.away, self.kinds, self.completed, self.lives, self._redo, self.retries.work_off
        )

    def lane_of(self, taken: Taken) -> str:
        """Name the lane of a record: its aggregate."""
        addressed = taken.addressed if isinstance(taken, Order) else taken
        on = self.on.get(addressed.topic.name) if addressed else None
        if addressed is not None and on is not None:
            return f"{on.kind.name}:{addressed.aggregate}"
        return self.revival.lane_of(taken) if isinstance(taken, Order) else taken.aggregate

    # events

    async def handle(self, taken: Taken) -> None:
        """Decide on one event (stored, a duplicate, deferred, or a dead letter), or act on a decision about one."""
        if isinstance(taken, Order):
            await self.revival.handle(taken)
        else:
            await self._handle(taken, None)

    async def handle_all(self, taken: Sequence[Taken]) -> Sequence[bool]:
        """Decide on what is plain among these, in one go; says of each whether it was."""
        jobs = [self._job(one) for one in taken]
        units = iter(await run_together(self.work, [job for job in jobs if job is not None]))
        done = [job is not None and next(units) is not None for job in jobs]
        for one, handled in zip(taken, done, strict=True):
            if handled and not isinstance(one, Order):
                self.count(one.topic.name, "handled")
        return done

    def _job(self, taken: Taken) -> Job | None:
        if isinstance(taken, Order):
            return None
        event = result_of(read_body, taken)
        if isinstance(event, Exception):
            return None
        at = self._address(self.on[taken.topic.name].kind, taken)
        return Job(at, partial(self._decide, taken, event, None), "event", event)

    async def _redo(self, order: Order) -> None:
        addressed = order.addressed
        if addressed is None or addressed.topic.name not in self.on:
            await self.revival.tell(order, "refused", f"{self.service} does not read {order.letter.topic}")
        elif order.letter.answered == addressed.envelope.subject:
            await self.revival.tell(order, "refused", f"task {order.letter.answered} has ended as rejected")
        else:
            await self._handle(addressed, order)

    async def _handle(self, addressed: Addressed, order: Order | None) -> None:
        begun, tries = self.work.clock.now(), 0
        outcome = result_of(read_body, addressed)
        if isinstance(outcome, Exception):
            await self.burial.event(addressed, outcome, 1, begun, order)
            return
        event = outcome
        while True:
            tries += 1
            problem = await self.away.outlast(lambda: self._process(addressed, event, order))
            if not isinstance(problem, Exception) or isinstance(problem, AlreadyHandled):
                await self._settled(addressed, order, problem)
                return
            if isinstance(problem, UnreadableState):
                problem = await self.away.outlast(partial(self._set_aside, addressed, event, problem, order))
                if not isinstance(problem, Exception) or isinstance(problem, AlreadyHandled):
                    await self._settled(addressed, order, problem)
                    return
            if isinstance(problem, TransientError):
                deferred = await self.away.outlast(partial(self._defer, addressed, event, problem, order))
                if not isinstance(deferred, Exception) and deferred.ignored is None:
                    self.count(addressed.topic.name, "deferred")
                    return
                if not isinstance(deferred, Exception) or isinstance(deferred, AlreadyHandled):
                    # it has ended; or another member, or a write whose reply got lost, was first
                    await self._settled(addressed, order, deferred)
                    return
                problem = deferred
            if is_permanent(problem) or tries >= DEFECT_TRIES:
                await self.burial.event(addressed, problem, tries, begun, order)
                return
            self.work.log.error(
                "handler_defect",
                event_type=addressed.topic.name,
                task=addressed.envelope.subject,
                tenant=addressed.tenant,
                exc_info=problem,
            )
            await asyncio.sleep(0.05 * tries)

    async def _settled(self, addressed: Addressed, order: Order | None, outcome: Unit[Any] | Exception) -> None:
        self.count(addressed.topic.name, "duplicate" if isinstance(outcome, Exception) else "handled")
        if order is None:
            return
        if isinstance(outcome, Exception):
            await self.revival.tell(order, "handled", "it was handled before")
        elif outcome.aggregate.deferred and outcome.aggregate.deferred[-1].letter == order.letter.id:
            return  # it waits behind others; whoever handles it says so
        elif outcome.ignored is not None:
            refused = outcome.ignored.startswith(REFUSED)
            await self.revival.tell(order, "refused" if refused else "ignored", outcome.ignored.removeprefix(REFUSED))
        else:
            await self.revival.tell(order, "handled")

    async def _process(self, addressed: Addressed, event: Received[Any], order: Order | None) -> Unit[Any]:
        at = self._address(self.on[addressed.topic.name].kind, addressed)
        decide = partial(self._decide, addressed, event, order)
        return await self.work.run(at, decide, "event", _known_as(event, order))

    def _decide(self, addressed: Addressed, event: Received[Any], order: Order | None, unit: Unit[Any]) -> None:
        on = self.on[addressed.topic.name]
        self._refuse_too_old(unit, event, addressed.record)
        unit.cause_id = event.id
        if unit.aggregate.quarantined or (unit.aggregate.deferred and on.event is not CancelRequested):
            queue_behind(unit, addressed, event, "waits behind an earlier event", unit.now.timestamp())
            _note(unit, order)
        elif order is not None and unit.closed:
            unit.ignore(f"{REFUSED}{on.kind.name} {unit.id} has ended")
        else:
            on.handler(unit, event)

    def _refuse_too_old(self, unit: Unit[Any], event: Received[Any], record: Record) -> None:
        age = (unit.now - record.timestamp).total_seconds()
        if unit.is_new and age > self.settings.horizon_seconds:
            raise TooOld(f"too_old: event {event.id} is {age:.0f} s old and its aggregate is gone; submit anew")

    async def _defer(
        self, addressed: Addressed, event: Received[Any], why: Exception, order: Order | None
    ) -> Unit[Any]:
        on = self.on[addressed.topic.name]

        def decide(unit: Unit[Any]) -> None:
            if unit.aggregate.tombstone:  # nothing would ever take it out again
                unit.ignore(f"{REFUSED}{on.kind.name} {unit.id} has ended")
                return
            if isinstance(why, NewerState):
                unit.aggregate.partition = None  # any newer member may claim it, whatever its partitions
            queue_behind(unit, addressed, event, str(why), unit.now.timestamp() + pause_after(why, 0))
            _note(unit, order)

        at = self._address(on.kind, addressed)
        return await self.work.run(at, decide, "event", _known_as(event, order), header_only=True)

    async def _set_aside(
        self, addressed: Addressed, event: Received[Any], why: UnreadableState, order: Order | None
    ) -> Unit[Any]:
        """Quarantine an aggregate that nobody can read, with the event waiting in it."""

        def decide(unit: Unit[Any]) -> None:
            if not unit.aggregate.quarantined:
                self.burial.quarantine(unit, why)
            queue_behind(unit, addressed, event, str(why), unit.now.timestamp())
            _note(unit, order)

        at = self._address(self.on[addressed.topic.name].kind, addressed)
        return await self.work.run(at, decide, "event", _known_as(event, order), header_only=True)

    def _address(self, kind: Kind[Any], addressed: Addressed) -> Address:
        return Address(kind, addressed.aggregate, addressed.envelope.subject, addressed.record.partition)

    async def poison(self, record: Record, problem: InvalidEventError, at: datetime) -> None:
        """Turn a record that is no event into one dead letter, and tell an intake client in words."""
        await self.burial.poison(record, problem, at)

    def deliver(self, kind: str, aggregate: Aggregate[Any], done: Completed) -> None:
        """Bring the outcome of an activity into its lane."""
        at = Address(self.kinds[kind], aggregate.id, aggregate.task_id, aggregate.partition)
        self.lanes.join(
            f"{kind}:{aggregate.id}", self.completions, (at, done), self.work.late.apart(at.partition), passing=True
        )

    # wakes

    def wake(self, kind: Kind[Any], aggregate: str) -> None:
        """Hand a wake to the lane of an aggregate."""
        if (kind.name, aggregate) in self.waking or (kind.name, aggregate) in self.left:
            return  # one that waits in its lane does for all
        self.waking.add((kind.name, aggregate))
        at = Address(kind, aggregate, aggregate.split("/")[1])
        if self.shrinking.fits(kind.name, aggregate):
            self.lanes.join(f"{kind.name}:{aggregate}", self.shrinking, at, None)
        else:
            self.lanes.put(f"{kind.name}:{aggregate}", self._wake, at)

    def under_way(self) -> int:
        """Count what is due and handed over, or left to a newer release: it must not hide what else is due."""
        now = self.work.clock.monotonic()
        self.left = {place: until for place, until in self.left.items() if until > now}
        return len(self.waking) + len(self.left)

    async def _wake(self, at: Address) -> None:
        self.waking.discard((at.kind.name, at.id))
        handlers = dict(self.timers.get(at.kind.name, {}))
        claimed = await self.away.outlast(lambda: self.work.run(at, self._claim, "wake", header_only=True))
        if isinstance(claimed, Exception):
            self.work.log.error("wake_defect", aggregate=at.id, exc_info=claimed)
            return
        aggregate = claimed.aggregate
        if isinstance(aggregate.unreadable, NewerState):
            self.left[at.kind.name, at.id] = self.work.clock.monotonic() + LEFT_SECONDS
            return
        if claimed.ignored is not None or aggregate.quarantined or (aggregate.closed and not aggregate.deferred):
            return

        def decide(unit: Unit[Any]) -> None:
            unit.aggregate.wake_tries = 0
            take_over(unit, self.dead(), dict(self.completed))
            fire_timers(unit, handlers)
            unit.ignored = None  # the timers that fired are gone, whatever their handlers made of it

        problem = await self.away.outlast(lambda: self.work.run(at, decide, "wake"))
        if isinstance(problem, Exception):
            self.work.log.error("wake_defect", aggregate=at.id, exc_info=problem)
            return
        await self.retries.work_off(at)

    def _claim(self, unit: Unit[Any]) -> None:
        """Take a due aggregate in one conditional write; one that keeps failing is quarantined."""
        aggregate, now = unit.aggregate, unit.now.timestamp()
        dead, due = self.dead(), aggregate.wake_at is not None and aggregate.wake_at <= now
        orphaned = any(
            activity.owner in dead and to_take_over(activity, dead, now) for activity in aggregate.activities.values()
        )
        if aggregate.tombstone or unit.is_new:
            unit.ignore("nothing to wake")
        elif isinstance(aggregate.unreadable, NewerState):
            if aggregate.partition is None or not due:
                unit.ignore("a process of the newer release wakes it")
            aggregate.partition = None  # so that any newer member finds it due, whatever its partitions
        elif not due and (aggregate.quarantined or not orphaned):
            unit.ignore("not due")
        elif aggregate.quarantined:
            pass  # the write publishes its dead letter, or finds it published and needs no further wake
        elif aggregate.unreadable is not None:
            self.burial.quarantine(unit, aggregate.unreadable)
        elif aggregate.closed and not aggregate.deferred:
            # The write publishes what is left; the next wake finds the outbox empty.
            forget_ended(aggregate, dead, now)
            if not aggregate.outbox and not aggregate.activities:
                shrink(unit)
            aggregate.wake_tries = 0
        elif aggregate.wake_tries >= WAKE_TRIES:
            self.burial.quarantine(unit, PermanentError(f"{aggregate.wake_tries} wakes in a row failed"))
        elif not self._was_interrupted(aggregate):
            aggregate.wake_tries += 1

    def _was_interrupted(self, aggregate: Aggregate[Any]) -> bool:
        """Say whether the last wake ended with its process: no fault of the aggregate, unless it happens all the time.

        The claim was then the last write. Of several in a row each fourth counts (they differ by one version each).
        """
        claimed_by = aggregate.write_id.rpartition("/")[0]
        return aggregate.wake_tries > 0 and not self.lives(claimed_by) and aggregate.version % 4 != 0

    def _handle_deferred(self, topic: str, unit: Unit[Any], event: Received[Any]) -> None:
        self.on[topic].handler(unit, event)

    # commands

    async def command(self, at: Address, decide: Callable[[Unit[Any]], T]) -> T:
        """Run a unit for somebody who waits; raises what it raises."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        answer: list[T] = []

        def keep(unit: Unit[Any]) -> None:
            answer[:] = [decide(unit)]

        async def item() -> None:
            if done.done():
                return  # nobody waits for it any more
            outcome = await outcome_of(lambda: self.work.run(at, keep, "command"))
            if done.done():
                return
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(answer[0])

        self.lanes.put(f"{at.kind.name}:{at.id}", item)
        return await done


def _known_as(event: Received[Any], order: Order | None) -> Received[Any]:
    """Say by which name the aggregate recognises a redrive that comes twice.

    A deferred event was noted when it was deferred, so its redrive goes by the dead letter's name.
    """
    if order is None or order.letter.kind != "deferred" or order.decision.action == "edit":
        return event
    return replace(event, id=f"redrive {order.letter.id}")


def _note(unit: Unit[Any], order: Order | None) -> None:
    """Write down that the newest deferred event came by a redrive."""
    if order is not None:
        newest = unit.aggregate.deferred[-1]
        newest.letter, newest.redrives = order.letter.id, order.letter.redrives + 1
