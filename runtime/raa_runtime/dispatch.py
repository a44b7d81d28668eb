"""What happens to an event, a completion, a wake or a command in its aggregate's lane, whatever goes wrong."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, TypeVar

from raa_runtime.away import Away
from raa_runtime.bus.port import Message, Record
from raa_runtime.deadletters import DeadLetter
from raa_runtime.deferral import as_record, pause_after, queue_behind
from raa_runtime.errors import (
    AggregateTooLarge,
    AlreadyHandled,
    NewerState,
    PermanentError,
    TransientError,
    is_permanent,
)
from raa_runtime.guard import outcome_of
from raa_runtime.intake import Addressed, Intake, read_body
from raa_runtime.lanes import Lanes
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import Aggregate, Deferred, Entry
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Completed, E, Received, Unit
from raa_runtime.unit_of_work import Address, Cause, UnitOfWork
from raa_runtime.wakes import (
    CompletedHandler,
    TimerHandler,
    fire_timers,
    forget_ended,
    shrink,
    take_over,
    to_take_over,
)
from raa_schemas.cancel import CancelRequested
from raa_schemas.envelope import InvalidEventError
from raa_schemas.errors import error
from raa_schemas.task import TaskStatus

DEFECT_TRIES: Final = 3
WAKE_TRIES: Final = 8
# a dead letter of an aggregate shows so much of its state; the aggregate itself stays in the store
MOST_STATE_SHOWN_BYTES: Final = 64_000
STALLS_TASKS: Final = frozenset({"planner", "safety", "executor", "reflector"})
Rejection = Callable[[Record, str], Message | None]
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
    intake: Intake
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

    def __post_init__(self) -> None:
        self.away = Away(self.work.log)

    def lane_of(self, addressed: Addressed) -> str:
        """Name the lane of a record: its aggregate."""
        return f"{self.on[addressed.topic.name].kind.name}:{addressed.aggregate}"

    # events

    async def handle(self, addressed: Addressed) -> None:
        """Decide on one event: stored, a duplicate, deferred, or a dead letter."""
        begun, tries = self.work.clock.now(), 0
        outcome = await outcome_of(lambda: _read(addressed))
        if isinstance(outcome, Exception):
            await self._bury(addressed, outcome, 1, begun)
            return
        event = outcome
        while True:
            tries += 1
            problem = await self.away.outlast(lambda: self._process(addressed, event))
            if not isinstance(problem, Exception):
                self.count(addressed.topic.name, "handled")
                return
            if isinstance(problem, AlreadyHandled):
                self.count(addressed.topic.name, "duplicate")
                return
            if isinstance(problem, TransientError):
                problem = await self.away.outlast(partial(self._defer, addressed, event, problem))
                if not isinstance(problem, Exception):
                    self.count(addressed.topic.name, "deferred")
                    return
                if isinstance(problem, AlreadyHandled):  # another member, or a write whose reply got lost, was first
                    self.count(addressed.topic.name, "duplicate")
                    return
            if is_permanent(problem) or tries >= DEFECT_TRIES:
                await self._bury(addressed, problem, tries, begun)
                return
            self.work.log.error(
                "handler_defect",
                event_type=addressed.topic.name,
                task=addressed.envelope.subject,
                tenant=addressed.tenant,
                exc_info=problem,
            )
            await asyncio.sleep(0.05 * tries)

    async def _process(self, addressed: Addressed, event: Received[Any]) -> None:
        on = self.on[addressed.topic.name]

        def decide(unit: Unit[Any]) -> None:
            self._refuse_too_old(unit, event, addressed.record)
            if unit.aggregate.quarantined or (unit.aggregate.deferred and on.event is not CancelRequested):
                queue_behind(unit, addressed, event, "waits behind an earlier event", unit.now.timestamp())
                return
            on.handler(unit, event)

        await self.work.run(self._address(on.kind, addressed), decide, "event", event)

    def _refuse_too_old(self, unit: Unit[Any], event: Received[Any], record: Record) -> None:
        age = (unit.now - record.timestamp).total_seconds()
        if unit.is_new and age > self.settings.horizon_seconds:
            raise PermanentError(f"too_old: event {event.id} is {age:.0f} s old and its aggregate is gone; submit anew")

    async def _defer(self, addressed: Addressed, event: Received[Any], why: Exception) -> None:
        on = self.on[addressed.topic.name]

        def decide(unit: Unit[Any]) -> None:
            if isinstance(why, NewerState):
                unit.aggregate.partition = None  # any newer member may claim it, whatever its partitions
            queue_behind(unit, addressed, event, str(why), unit.now.timestamp() + pause_after(why, 0))

        await self.work.run(self._address(on.kind, addressed), decide, "event", event, header_only=True)

    def _address(self, kind: Kind[Any], addressed: Addressed) -> Address:
        return Address(kind, addressed.aggregate, addressed.envelope.subject, addressed.record.partition)

    async def poison(self, record: Record, problem: InvalidEventError, at: datetime) -> None:
        """Turn a record that is no event into one dead letter, and tell an intake client in words."""
        if self._is_anothers(record):
            return
        letter = self._letter(record, problem, 1, at)
        self.work.log.warning(
            "dead_letter",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=str(problem),
            fingerprint=letter.fingerprint,
        )
        self.count(record.topic, "dead_letter")
        await self.work.bury(letter)
        await self._reject(record, str(problem))

    async def _bury(self, addressed: Addressed, problem: Exception, tries: int, begun: datetime) -> None:
        record, envelope = addressed.record, addressed.envelope
        if isinstance(problem, InvalidEventError) and self._is_anothers(record):
            return
        letter = self._letter(record, problem, tries, begun)
        self.work.log.error(
            "dead_letter",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            task=envelope.subject,
            tenant=addressed.tenant,
            reason=str(problem),
            fingerprint=letter.fingerprint,
        )
        self.count(addressed.topic.name, "dead_letter")
        more = []
        if self.service in STALLS_TASKS and not self._is_intake(record):
            more.append(
                letter.stalled(self.work.deployment, addressed.tenant, envelope.subject, envelope.type, envelope.id)
            )
        await self.work.bury(letter, *more)
        await self._reject(record, str(problem))

    def _is_anothers(self, record: Record) -> bool:
        """Say whether a broken record of a client is the dead letter of the topic's first reader, so that it is one."""
        topic = self.intake.topic(record.topic)
        anothers = topic.writers == ("client",) and topic.readers[0] != self.service
        if anothers:
            self.count(topic.name, "skipped")
        return anothers

    def _is_intake(self, record: Record) -> bool:
        return self.rejections is not None and self.intake.topic(record.topic).name == "task.created"

    async def _reject(self, record: Record, reason: str) -> None:
        if self.rejections is None or not self._is_intake(record):
            return
        message = self.rejections(record, reason)
        if message is not None:
            await self.work.send([message])

    def _letter(self, record: Record, problem: Exception, tries: int, begun: datetime) -> DeadLetter:
        return DeadLetter(
            "record",
            self.service,
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            record.headers,
            problem,
            tries,
            begun,
            self.work.clock.now(),
        )

    # completions

    def deliver(self, kind: str, aggregate: Aggregate[Any], done: Completed) -> None:
        """Bring the outcome of an activity into its lane."""
        at = Address(self.kinds[kind], aggregate.id, aggregate.task_id, aggregate.partition)
        self.lanes.put(f"{kind}:{aggregate.id}", lambda: self._complete(at, done))

    async def _complete(self, at: Address, done: Completed) -> None:
        def decide(unit: Unit[Any]) -> None:
            activity = unit.aggregate.activities.get(done.activity_id)
            if activity is None or activity.epoch != done.epoch or activity.owner != unit.owner:
                unit.ignore("fenced: this activity was settled or taken over")
                return
            del unit.aggregate.activities[done.activity_id]
            unit.cause_id = activity.cause_id or unit.cause_id
            if not unit.closed:
                self.completed[done.kind](unit, done)
            unit.ignored = None  # even if nothing follows from it, the activity is over

        problem = await self.away.outlast(lambda: self.work.run(at, decide, "completed"))
        if isinstance(problem, AggregateTooLarge) and done.outcome == "done":
            failed = replace(done, outcome="failed", result=None, error=error("too_large", str(problem)))
            await self._complete(at, failed)
            return
        if isinstance(problem, Exception) and await self._insist(at, decide, "completed"):
            await self._leave_outcome(at, done)
        self.settled(at.kind.name, at.id, done.activity_id, done.epoch)

    async def _leave_outcome(self, at: Address, done: Completed) -> None:
        """Keep an outcome with its intent for a process of the newer release that wrote this state."""

        def decide(unit: Unit[Any]) -> None:
            activity = unit.aggregate.activities.get(done.activity_id)
            if activity is None or activity.epoch != done.epoch or activity.owner != unit.owner:
                unit.ignore("fenced: this activity was settled or taken over")
                return
            activity.kept = asdict(done)
            unit.aggregate.partition = None  # any newer member may claim it, whatever its partitions

        failed = await self.away.outlast(lambda: self.work.run(at, decide, "completed", header_only=True))
        if isinstance(failed, Exception):
            self.work.log.critical("outcome_not_kept", aggregate=at.id, activity=done.activity_id, exc_info=failed)

    async def _insist(self, at: Address, decide: Callable[[Unit[Any]], None], cause: Cause) -> NewerState | None:
        """Run a unit that no redelivery would repeat; a defect quarantines the aggregate instead of losing it.

        Gives NewerState back: only a process of a newer release may decide here.
        """
        tries = 0
        while True:
            tries += 1
            problem = await self.away.outlast(lambda: self.work.run(at, decide, cause))
            if not isinstance(problem, Exception):
                return None
            self.work.log.error("unit_defect", cause=cause, aggregate=at.id, exc_info=problem)
            if isinstance(problem, NewerState):
                return problem
            if tries >= (self.settings.defer_tries if isinstance(problem, TransientError) else DEFECT_TRIES):
                break
            await asyncio.sleep(0.05 * 2**tries)
        await self._give_up(at, problem, cause)
        return None

    async def _give_up(self, at: Address, problem: Exception, cause: Cause) -> None:
        quarantine = partial(self._quarantine, problem=problem)
        failed = await self.away.outlast(lambda: self.work.run(at, quarantine, cause, header_only=True))
        if isinstance(failed, Exception):
            self.work.log.critical("quarantine_failed", aggregate=at.id, exc_info=failed)

    def _quarantine(self, unit: Unit[Any], problem: Exception) -> None:
        if unit.aggregate.quarantined:
            unit.ignore("it waits for its redrive already")
            return
        unit.aggregate.quarantined = True
        shown = unit.state.model_dump_json().encode()
        if len(shown) > MOST_STATE_SHOWN_BYTES:
            shown = json.dumps({"aggregate": unit.id, "kind": unit.kind.name, "state_bytes": len(shown)}).encode()
        letter = DeadLetter(
            "aggregate",
            self.service,
            unit.kind.name,
            -1,
            -1,
            unit.id.encode(),
            shown,
            (),
            problem,
            unit.aggregate.wake_tries,
            unit.now,
            unit.now,
        )
        self._put_letter(unit, letter, unit.kind.name, None)
        if self.service == "planner":  # it cannot tell itself by task.stalled any more
            unit.publish(
                TaskStatus(
                    task_id=unit.task_id,
                    state="stalled",
                    waiting_for=f"a redrive of {letter.fingerprint} from {self.service}.dlq",
                )
            )

    def _put_letter(self, unit: Unit[Any], letter: DeadLetter, dead_type: str, dead_id: str | None) -> None:
        messages = [letter.message(self.work.deployment)]
        if self.service in STALLS_TASKS:
            messages.append(letter.stalled(self.work.deployment, unit.tenant, unit.task_id, dead_type, dead_id))
        for number, message in enumerate(messages):
            unit.aggregate.counter += 1
            unit.aggregate.outbox.append(
                Entry(
                    f"{letter.fingerprint}-{unit.id}-{unit.aggregate.counter}-{number}",
                    message.topic,
                    message.key.decode(),
                    [(name, raw.decode()) for name, raw in message.headers],
                    message.value.decode(),
                )
            )
        self.work.log.error("dead_letter", kind=letter.kind, aggregate=unit.id, reason=str(letter.problem))

    # wakes

    def wake(self, kind: Kind[Any], aggregate: str) -> None:
        """Hand a wake to the lane of an aggregate."""
        if (kind.name, aggregate) in self.waking:
            return  # one that waits in its lane does for all
        self.waking.add((kind.name, aggregate))
        at = Address(kind, aggregate, aggregate.split("/")[1])
        self.lanes.put(f"{kind.name}:{aggregate}", lambda: self._wake(at))

    async def _wake(self, at: Address) -> None:
        self.waking.discard((at.kind.name, at.id))
        handlers = dict(self.timers.get(at.kind.name, {}))
        claimed = await self.away.outlast(lambda: self.work.run(at, self._claim, "wake", header_only=True))
        if isinstance(claimed, Exception):
            self.work.log.error("wake_defect", aggregate=at.id, exc_info=claimed)
            return
        aggregate = claimed.aggregate
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
        await self._work_off(at)

    def _claim(self, unit: Unit[Any]) -> None:
        """Take a due aggregate in one conditional write; one that keeps failing is quarantined."""
        aggregate, now = unit.aggregate, unit.now.timestamp()
        dead, due = self.dead(), aggregate.wake_at is not None and aggregate.wake_at <= now
        orphaned = any(
            activity.owner in dead and to_take_over(activity, dead, now) for activity in aggregate.activities.values()
        )
        if aggregate.tombstone or unit.is_new or isinstance(aggregate.unreadable, NewerState):
            unit.ignore("nothing to wake")
        elif not due and (aggregate.quarantined or not orphaned):
            unit.ignore("not due")
        elif aggregate.quarantined:
            pass  # the write publishes its dead letter, or finds it published and needs no further wake
        elif aggregate.unreadable is not None:
            self._quarantine(unit, aggregate.unreadable)
        elif aggregate.closed and not aggregate.deferred:
            # The write publishes what is left; the next wake finds the outbox empty.
            forget_ended(aggregate, dead, now)
            if not aggregate.outbox and not aggregate.activities:
                shrink(unit)
            aggregate.wake_tries = 0
        elif aggregate.wake_tries >= WAKE_TRIES:
            self._quarantine(unit, PermanentError(f"{aggregate.wake_tries} wakes in a row failed"))
        elif not self._was_interrupted(aggregate):
            aggregate.wake_tries += 1

    def _was_interrupted(self, aggregate: Aggregate[Any]) -> bool:
        """Say whether the last wake ended with its process: no fault of the aggregate, unless it happens all the time.

        The claim was then the last write. Of several in a row each fourth counts (they differ by one version each).
        """
        claimed_by = aggregate.write_id.rpartition("/")[0]
        return aggregate.wake_tries > 0 and not self.lives(claimed_by) and aggregate.version % 4 != 0

    async def _work_off(self, at: Address) -> None:
        """Try the deferred events that are due, in order; the first that fails again holds back the others."""
        while True:
            tried: list[Deferred] = []
            attempt = partial(self._next_deferred, tried=tried)
            outcome = await self.away.outlast(partial(self.work.run, at, attempt, "wake"))
            if not tried:
                return
            if isinstance(outcome, Exception):
                put_back = partial(self._put_back, why=outcome)
                await self.away.outlast(partial(self.work.run, at, put_back, "wake"))
                return

    def _next_deferred(self, unit: Unit[Any], tried: list[Deferred]) -> None:
        tried.clear()
        waiting = unit.aggregate.deferred
        if unit.aggregate.quarantined or not waiting or waiting[0].due > unit.now.timestamp():
            unit.ignore("nothing deferred is due")
            return
        head = waiting.pop(0)
        tried.append(head)
        addressed = self.intake.address(as_record(head))
        event = read_body(addressed)
        unit.cause_id = event.id
        if unit.aggregate.version <= 1 and unit.aggregate.counter == 0:
            unit.take_context(event)
        self.on[addressed.topic.name].handler(unit, event)
        unit.ignored = None  # even if nothing follows from it, it waits no longer

    def _put_back(self, unit: Unit[Any], why: Exception) -> None:
        if not unit.aggregate.deferred:
            unit.ignore("nothing deferred")
            return
        head = unit.aggregate.deferred[0]
        head.tries += 1
        head.reason = str(why)
        head.due = unit.now.timestamp() + pause_after(why, head.tries)
        if isinstance(why, TransientError) and head.tries < self.settings.defer_tries:
            return
        if not is_permanent(why) and head.tries < min(DEFECT_TRIES, self.settings.defer_tries):
            return
        unit.aggregate.deferred.pop(0)
        record = as_record(head)
        letter = DeadLetter(
            "deferred",
            self.service,
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            record.headers,
            why,
            head.tries,
            datetime.fromtimestamp(head.first_failed, UTC),
            unit.now,
        )
        self._put_letter(unit, letter, self.intake.topic(record.topic).name, head.event_id)

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


async def _read(addressed: Addressed) -> Received[Any]:
    return read_body(addressed)
