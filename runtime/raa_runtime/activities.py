"""Activities: work outside the lanes, started by an intent and ended by a `Completed` in the aggregate's lane."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import PydanticSerializationError, from_json, to_json

from raa_runtime.clock import Clock
from raa_runtime.errors import LeaseLost, PermanentError, RaaError, TransientError
from raa_runtime.guard import outcome_of
from raa_runtime.scope import TenantScope
from raa_runtime.state.aggregate import Activity, Aggregate
from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Logger
from raa_runtime.unit import ActivityOutcome, Completed
from raa_runtime.wakes import CompletedHandler
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.ids import TaskId, TenantId

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 10.0
SHORTEST_PAUSE_SECONDS: Final = 0.01
LET_GO_SECONDS: Final = 5.0
Place = tuple[str, str, str]


class ActivityFailed(RaaError):
    """The activity came to a clear negative end; it is not tried again."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(f"{info.code}: {info.message}")
        self.info = info


@dataclass(slots=True)
class Call:
    """What an activity function gets."""

    activity_id: str
    kind: str
    args: dict[str, Any]
    tenant: TenantId
    task_id: TaskId
    aggregate: str
    key: str
    effect: str
    attempt: int
    epoch: int
    deadline: datetime
    recovering: bool
    clock: Clock
    lease: Callable[[], None] = field(repr=False)
    owned: "Owned" = field(repr=False, default_factory=lambda: _surely)

    @property
    def scope(self) -> TenantScope:
        """Give the right to this tenant's data."""
        return TenantScope(self.tenant)

    def remaining_seconds(self) -> float:
        """Count the seconds to the deadline, at least 0."""
        return max(0.0, (self.deadline - self.clock.now()).total_seconds())

    async def before_effect(self) -> None:
        """Check the lease right before a call that cannot be taken back; raises LeaseLost.

        Whoever was silent for too long since the intent asks the store first whether the activity is still its own: the
        heartbeat that came back after a pause says nothing about what others did meanwhile.
        """
        if not await self.owned():
            raise LeaseLost("this process was silent for too long, and another one took the activity over")
        self.lease()


Run = Callable[[Call], Awaitable[Any]]
Owned = Callable[[], Awaitable[bool]]
Owns = Callable[[str, str, str, int], Owned]
Deliver = Callable[[str, Aggregate[Any], Completed], None]
_UNREPEATABLE: Final = frozenset({"once", "checkable"})


async def _surely() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Does:
    """An activity: what runs outside the lane, and which handler gets its outcome."""

    name: str
    kind: Kind[Any]
    run: Run
    completed: CompletedHandler


class Activities:
    """Run the activities this process owns; each ends in exactly one `deliver`, unless the process lets go of it.

    One is `held` from its launch until `settled` says that its outcome is stored or fenced; launching a held epoch
    again does nothing, so that whoever finds an intent of this process may launch it without asking. `owns` makes, for
    kind, aggregate, activity and epoch, the question whether it is still this process's.
    """

    def __init__(
        self,
        runs: dict[str, Run],
        clock: Clock,
        lease: Callable[[], None],
        log: Logger,
        deliver: Deliver,
        owns: Owns = lambda *_: _surely,
    ) -> None:
        self._runs = runs
        self._clock = clock
        self._lease = lease
        self._log = log
        self._deliver = deliver
        self._owns = owns
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._effects: dict[Place, str] = {}
        self._held: dict[Place, int] = {}
        self._stopped: set[asyncio.Task[Any]] = set()
        self._abandoned = False

    def __len__(self) -> int:
        """Count the running activities."""
        return len(self._tasks)

    def launch(self, kind: str, aggregate: Aggregate[Any], activity: Activity) -> None:
        """Start an activity whose intent is stored, unless it was started already; one to be stopped ends at once."""
        place = (kind, aggregate.id, activity.id)
        if self._abandoned or self._held.get(place, 0) >= activity.epoch:
            return
        self._held[place] = activity.epoch
        call = Call(
            activity_id=activity.id,
            kind=activity.kind,
            args=from_json(to_json(activity.args)),  # the aggregate in memory keeps its own
            tenant=TenantId(aggregate.tenant),
            task_id=TaskId(aggregate.task_id),
            aggregate=aggregate.id,
            key=activity.key,
            effect=activity.effect,
            attempt=activity.attempt,
            epoch=activity.epoch,
            deadline=datetime.fromtimestamp(activity.deadline, UTC),
            recovering=activity.attempt > 1,
            clock=self._clock,
            lease=self._lease,
            owned=self._owns(kind, aggregate.id, activity.id, activity.epoch),
        )
        if activity.stopping:
            self._deliver(kind, aggregate, _completed(call, "cancelled", None, _stopped(call), 0))
            return
        task = asyncio.create_task(self._run(kind, aggregate, call), name=f"activity {aggregate.id} {activity.id}")
        self._tasks[place], self._effects[place] = task, activity.effect
        task.add_done_callback(lambda done: self._ended(place, done, aggregate, call))

    def settled(self, kind: str, aggregate: str, activity: str, epoch: int) -> None:
        """Note that the outcome of an epoch is stored or fenced."""
        if self._held.get((kind, aggregate, activity)) == epoch:
            del self._held[kind, aggregate, activity]

    def _ended(self, place: Place, task: asyncio.Task[None], aggregate: Aggregate[Any], call: Call) -> None:
        if task.cancelled() and task in self._stopped:  # before its first step
            self._deliver(place[0], aggregate, _completed(call, "cancelled", None, _stopped(call), 0))
        self._stopped.discard(task)
        if self._tasks.get(place) is task:  # else a later epoch runs in its place
            del self._tasks[place], self._effects[place]

    async def _run(self, kind: str, aggregate: Aggregate[Any], call: Call) -> None:
        begun = self._clock.monotonic()
        outcome, result, info = await self._attempts(call)
        duration = int((self._clock.monotonic() - begun) * 1000)
        self._deliver(kind, aggregate, _completed(call, outcome, result, info, duration))

    async def _attempts(self, call: Call) -> tuple[ActivityOutcome, Any, ErrorInfo | None]:
        pause = FIRST_PAUSE_SECONDS
        try:
            while call.remaining_seconds():
                async with asyncio.timeout(call.remaining_seconds()):
                    answer = await outcome_of(lambda: self._called(call))
                if not isinstance(answer, Exception):
                    return "done", answer, None
                wait = _pause_after(call, answer, pause)
                if wait is None or wait >= call.remaining_seconds():
                    return "failed", None, self._as_info(call, answer)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(wait)
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if asyncio.current_task() not in self._stopped:
                raise  # the process lets go; whoever takes over runs it again
            return "cancelled", None, _stopped(call)
        return "failed", None, error("tool_timeout", f"{call.kind} did not end by its deadline")

    async def _called(self, call: Call) -> Any:
        run = self._runs.get(call.kind)
        if run is None:
            raise PermanentError(f"this release does no {call.kind!r}; it was started by another one")
        result = await run(call)
        try:
            to_json(result)
        except PydanticSerializationError as problem:
            raise ActivityFailed(error("bad_output", f"{call.kind}: {problem}")) from None
        return result

    def _as_info(self, call: Call, problem: Exception) -> ErrorInfo:
        if isinstance(problem, ActivityFailed):
            return problem.info
        if isinstance(problem, TransientError | LeaseLost):
            return ErrorInfo(code="unavailable", message=str(problem), retryable=True, hint="try again later")
        if isinstance(problem, PermanentError):
            return ErrorInfo(code=type(problem).__name__, message=str(problem))
        self._log.error("activity_defect", activity=call.kind, tenant=call.tenant, task=call.task_id, exc_info=problem)
        return error("internal", f"{call.kind}: {type(problem).__name__}: {problem}")

    def stop(self, kind: str, aggregate: str, activity: str) -> None:
        """Cancel an activity; it still delivers, as cancelled."""
        if (task := self._tasks.get((kind, aggregate, activity))) and task not in self._stopped:
            self._stopped.add(task)
            task.cancel()

    def unrepeatable(self) -> bool:
        """Say whether something runs that nobody may simply run again."""
        return not _UNREPEATABLE.isdisjoint(self._effects.values())

    async def finish_unrepeatable(self, timeout_seconds: float) -> None:
        """Wait for running `once` and `checkable` activities, which nobody may simply run again."""
        waiting = [self._tasks[place] for place, effect in self._effects.items() if effect in _UNREPEATABLE]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_seconds)

    async def abandon(self) -> None:
        """Stop everything without delivering: others, or the next start, take it over.

        Waits at most 5 seconds for those that do not let go.
        """
        self._deliver, self._abandoned = lambda *_: None, True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LET_GO_SECONDS)


def _completed(call: Call, outcome: ActivityOutcome, result: Any, info: ErrorInfo | None, duration: int) -> Completed:
    return Completed(
        call.activity_id, call.kind, call.args, call.key, call.attempt, call.epoch, outcome, result, info, duration
    )


def _stopped(call: Call) -> ErrorInfo:
    return error("cancelled", f"{call.kind} was stopped")


def _pause_after(call: Call, problem: Exception, pause: float) -> float | None:
    """Say how long to wait before the next attempt, None if there must be none."""
    # A lost lease shows before the effect, so even `once` may try again; if somebody took over, they fence us.
    if not isinstance(problem, LeaseLost) and (call.effect == "once" or not isinstance(problem, TransientError)):
        return None
    asked = getattr(problem, "retry_after", None)
    return max(asked, SHORTEST_PAUSE_SECONDS) if asked else random.uniform(pause / 2, pause)  # noqa: S311  # jitter
