"""Activities: work outside the lanes, started by an intent and ended by a `Completed` in the aggregate's lane."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from raa_runtime.clock import Clock
from raa_runtime.errors import LeaseLost, PermanentError, RaaError, TransientError
from raa_runtime.guard import outcome_of
from raa_runtime.scope import TenantScope
from raa_runtime.state.aggregate import Activity, Aggregate
from raa_runtime.telemetry import Logger
from raa_runtime.unit import ActivityOutcome, Completed
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.ids import TaskId, TenantId

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


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

    @property
    def scope(self) -> TenantScope:
        """Give the right to this tenant's data."""
        return TenantScope(self.tenant)

    def remaining_seconds(self) -> float:
        """Count the seconds to the deadline, at least 0."""
        return max(0.0, (self.deadline - self.clock.now()).total_seconds())

    async def before_effect(self) -> None:
        """Check the lease right before a call that cannot be taken back; raises LeaseLost."""
        self.lease()


Run = Callable[[Call], Awaitable[Any]]
Deliver = Callable[[str, Aggregate[Any], Completed], None]


class Activities:
    """Run the activities this process owns; each ends in exactly one `deliver`, unless the process lets go of it."""

    def __init__(self, runs: dict[str, Run], clock: Clock, lease: Callable[[], None], log: Logger,
                 deliver: Deliver) -> None:
        self._runs = runs
        self._clock = clock
        self._lease = lease
        self._log = log
        self._deliver = deliver
        self._tasks: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._effects: dict[tuple[str, str, str], str] = {}

    def __len__(self) -> int:
        """Count the running activities."""
        return len(self._tasks)

    def launch(self, kind: str, aggregate: Aggregate[Any], activity: Activity) -> None:
        """Start an activity whose intent is stored."""
        place = (kind, aggregate.id, activity.id)
        call = Call(
            activity_id=activity.id,
            kind=activity.kind,
            args=activity.args,
            tenant=TenantId(aggregate.tenant),
            task_id=TaskId(aggregate.task_id),
            aggregate=aggregate.id,
            key=activity.key,
            effect=activity.effect,
            attempt=activity.attempt,
            epoch=activity.epoch,
            deadline=datetime.fromtimestamp(activity.deadline, UTC),
            recovering=activity.epoch > 1,
            clock=self._clock,
            lease=self._lease,
        )
        task = asyncio.create_task(self._run(kind, aggregate, call), name=f"activity {aggregate.id} {activity.id}")
        self._tasks[place], self._effects[place] = task, activity.effect
        task.add_done_callback(lambda _: self._forget(place))

    def _forget(self, place: tuple[str, str, str]) -> None:
        self._tasks.pop(place, None)
        self._effects.pop(place, None)

    async def _run(self, kind: str, aggregate: Aggregate[Any], call: Call) -> None:
        begun = self._clock.monotonic()
        outcome, result, info = await self._attempts(call)
        duration = int((self._clock.monotonic() - begun) * 1000)
        self._deliver(kind, aggregate, Completed(
            call.activity_id, call.kind, call.args, call.key, call.attempt, call.epoch, outcome, result, info,
            duration))

    async def _attempts(self, call: Call) -> tuple[ActivityOutcome, Any, ErrorInfo | None]:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with asyncio.timeout(call.remaining_seconds()):
                    answer = await outcome_of(lambda: self._runs[call.kind](call))
            except TimeoutError:
                return "failed", None, error("tool_timeout", f"{call.kind} did not end by its deadline")
            except asyncio.CancelledError:
                return "cancelled", None, error("cancelled", f"{call.kind} was stopped")
            if not isinstance(answer, Exception):
                return "done", answer, None
            # A lost lease shows before the effect, so even `once` may try again; if somebody took over, they fence us.
            if isinstance(answer, LeaseLost) or (isinstance(answer, TransientError) and call.effect != "once"):
                wait = getattr(answer, "retry_after", None) or random.uniform(pause / 2, pause)  # noqa: S311  # jitter, not a secret
                if wait < call.remaining_seconds():
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                    await asyncio.sleep(wait)
                    continue
            return "failed", None, self._as_info(call, answer)

    def _as_info(self, call: Call, problem: Exception) -> ErrorInfo:
        if isinstance(problem, ActivityFailed):
            return problem.info
        if isinstance(problem, TransientError):
            return ErrorInfo(code="unavailable", message=str(problem), retryable=True, hint="try again later")
        if isinstance(problem, PermanentError):
            return ErrorInfo(code=type(problem).__name__, message=str(problem))
        self._log.error("activity_defect", activity=call.kind, tenant=call.tenant, task=call.task_id, exc_info=problem)
        return error("internal", f"{call.kind}: {type(problem).__name__}: {problem}")

    def stop(self, kind: str, aggregate: str, activity: str) -> None:
        """Cancel an activity; it still delivers, as cancelled."""
        if task := self._tasks.get((kind, aggregate, activity)):
            task.cancel()

    async def finish_unrepeatable(self, timeout_seconds: float) -> None:
        """Wait for running `once` and `checkable` activities, which nobody may simply run again."""
        waiting = [self._tasks[place] for place, effect in self._effects.items() if effect in {"once", "checkable"}]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_seconds)

    async def abandon(self) -> None:
        """Stop everything without delivering: others, or the next start, take it over."""
        self._deliver = lambda *_: None
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
