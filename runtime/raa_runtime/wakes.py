"""Time as an event: what a due aggregate has to do, and the poller that finds it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raa_runtime.clock import Clock
from raa_runtime.convoy import Job, run_together
from raa_runtime.remembrance import Oblivion
from raa_runtime.state.aggregate import Activity, Aggregate, stop_mark
from raa_runtime.state.codec import Kind
from raa_runtime.state.port import DocumentStore
from raa_runtime.unit import Completed, Unit
from raa_runtime.unit_of_work import ACTIVITY_GRACE_SECONDS, Address, UnitOfWork
from raa_schemas.errors import ErrorInfo, error

POLL_SECONDS: Final = 0.5
# Deaths count also for an intent that only waited for a tool slot in a process that another call ended: to tell them
# apart would cost a write per call. So the limit is high enough for a bad day and still ends what ends every process.
MOST_RUNS: Final = 8
_PAGE: Final = 1_000
TimerHandler = Callable[[Unit[Any], str], None]
CompletedHandler = Callable[[Unit[Any], Completed], None]


@dataclass(frozen=True, slots=True)
class Timer:
    """A named timer of a kind of aggregate."""

    name: str
    kind: Kind[Any]
    handler: TimerHandler


def shrink(unit: Unit[Any]) -> None:
    """Turn an ended aggregate into its tombstone; its outbox is known to be published."""
    aggregate = unit.aggregate
    aggregate.state = unit.kind.tombstone(aggregate.state)
    aggregate.outbox, aggregate.deferred, aggregate.tombstone = [], [], True


def fire_timers(unit: Unit[Any], handlers: dict[str, TimerHandler]) -> None:
    """Call the handler of each timer that is due."""
    now = unit.now.timestamp()
    due = sorted((at, name) for name, at in unit.aggregate.timers.items() if at <= now)
    for _, name in due:
        if unit.aggregate.timers.pop(name, None) is not None:
            handlers[name](unit, name)


def forget_ended(aggregate: Aggregate[Any], dead: Collection[str], now: float) -> None:
    """Drop the activities of an ended aggregate that nobody runs any more; those asked to stop say so themselves."""
    for activity in list(aggregate.activities.values()):
        ended = activity.kept is not None or activity.owner in dead
        if ended or now > activity.deadline + ACTIVITY_GRACE_SECONDS:
            del aggregate.activities[activity.id]


def take_over(unit: Unit[Any], dead: Collection[str], completed: dict[str, CompletedHandler]) -> None:
    """Settle or reclaim the activities of dead processes and those far past their deadline.

    What may be repeated starts again here; `once` ends as unknown, because nobody may repeat it. Once the aggregate has
    ended, be it by one of them, the others decide nothing.
    """
    now = unit.now.timestamp()
    for activity in list(unit.aggregate.activities.values()):
        if unit.closed:
            return
        if activity.kept is not None:
            del unit.aggregate.activities[activity.id]
            unit.cause_id = activity.cause_id or unit.cause_id
            completed[activity.kind](unit, _kept(activity.kept))
        elif not to_take_over(activity, dead, now):
            continue
        elif activity.attempt >= MOST_RUNS:
            _settle(unit, activity, "unknown" if activity.effect == "once" else "failed", completed)
        elif activity.stopping:
            _settle(unit, activity, "cancelled", completed)
        elif activity.effect == "once":
            _settle(unit, activity, "unknown", completed)
        elif activity.owner not in dead:
            _settle(unit, activity, "failed", completed)
        else:
            activity.owner, activity.epoch, activity.attempt = unit.owner, activity.epoch + 1, activity.attempt + 1
            activity.deadline = now + activity.timeout_seconds
            unit.started.append(activity)


def _kept(stored: dict[str, Any]) -> Completed:
    info = stored["error"]
    return Completed(**stored | {"error": ErrorInfo.model_validate(info) if info else None})


def to_take_over(activity: Activity, dead: Collection[str], now: float) -> bool:
    """Say whether somebody has to step in now."""
    if activity.owner not in dead:
        return now > activity.deadline + ACTIVITY_GRACE_SECONDS
    # what the far side is asked about must not be on its way any more
    return activity.effect != "checkable" or activity.stopping or now >= activity.deadline


def _settle(unit: Unit[Any], activity: Activity, outcome: Any, completed: dict[str, CompletedHandler]) -> None:
    del unit.aggregate.activities[activity.id]
    newest, unit.cause_id = unit.cause_id, activity.cause_id or unit.cause_id
    ended = f"{activity.attempt} processes in a row ended while they ran {activity.kind}; it may be what ends them"
    late = f"{activity.kind} did not end by its deadline"
    reasons = {
        "unknown": error("outcome_unknown", f"the process running {activity.kind} ended between intent and outcome"),
        "failed": error("tool_error", ended) if activity.attempt >= MOST_RUNS else error("tool_timeout", late),
        "cancelled": error("cancelled", f"{activity.kind} was stopped"),
    }
    completed[activity.kind](
        unit,
        Completed(
            activity.id,
            activity.kind,
            activity.args,
            activity.key,
            activity.attempt,
            activity.epoch,
            outcome,
            error=reasons[outcome],
        ),
    )
    unit.cause_id = newest


def needs_no_handler(aggregate: Aggregate[Any], now: float) -> bool:
    """Say whether a wake has only to write down that nothing is left to do: nothing can fail that has to be counted."""
    if aggregate.quarantined or aggregate.deferred or aggregate.unreadable is not None:
        return False
    if aggregate.closed:
        return True
    return not (aggregate.activities or aggregate.wake_tries or any(at <= now for at in aggregate.timers.values()))


@dataclass(eq=False)
class Shrinking:
    """Turn ended aggregates into tombstones and take note of published outboxes, many at once.

    Whatever needs more is woken as usual.
    """

    work: UnitOfWork
    claim: Callable[[Unit[Any]], None]
    wake: Callable[[Address], Awaitable[None]]
    waking: set[tuple[str, str]]

    def fits(self, kind: str, aggregate: str) -> bool:
        """Say whether a wake of an aggregate in memory has nothing else to do."""
        known = self.work.cache.look(kind, aggregate)
        return known is not None and needs_no_handler(known, self.work.clock.now().timestamp())

    async def together(self, items: Sequence[Address]) -> Sequence[bool]:
        """Do so with those that are due."""
        jobs = [Job(at, self._claim_plain, "wake", header_only=True) for at in items]
        done = [unit is not None for unit in await run_together(self.work, jobs)]
        # not before: until it is stored, a sweep finds it due again
        self.waking.difference_update((at.kind.name, at.id) for at in items)
        return done

    def _claim_plain(self, unit: Unit[Any]) -> None:
        if needs_no_handler(unit.aggregate, unit.now.timestamp()):
            self.claim(unit)
            unit.aggregate.wake_tries = 0
        else:
            unit.ignore("it needs more")

    async def alone(self, item: Address) -> None:
        """Wake one."""
        await self.wake(item)


@dataclass
class Poller:
    """Find due aggregates among the partitions this process holds and hand them to their lanes."""

    store: DocumentStore
    clock: Clock
    kinds: Sequence[Kind[Any]]
    partitions: Callable[[], Collection[int] | None]
    wake: Callable[[Kind[Any], str], None]
    oblivion: Oblivion | None = None

    async def sweep(self, under_way: int = 0) -> None:
        """Hand over what is due now; `under_way` of them are in their lanes already and must not hide the others."""
        now, held = self.clock.now().timestamp(), self.partitions()
        for kind in self.kinds:
            for aggregate in await self.store.due(kind.name, now, held, under_way + _PAGE):
                self.wake(kind, aggregate)
        if self.oblivion is not None:
            await self.oblivion.sweep(self.kinds, held)

    async def to_stop(self, incarnation: str) -> list[tuple[Kind[Any], str]]:
        """Name the aggregates that ask this process to stop one of its activities."""
        return [
            (kind, aggregate)
            for kind in self.kinds
            for aggregate in await self.store.owned_by(kind.name, {stop_mark(incarnation)}, _PAGE)
        ]

    async def reclaim(self, dead: Collection[str]) -> bool:
        """Hand over what dead processes were running; returns whether there was anything."""
        found = False
        for kind in self.kinds:
            for aggregate in await self.store.owned_by(kind.name, dead, _PAGE):
                self.wake(kind, aggregate)
                found = True
        return found

    async def pause(self) -> None:
        """Sleep until the next sweep."""
        await asyncio.sleep(POLL_SECONDS)
