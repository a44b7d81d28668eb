"""What clients are told: where a task stands, and how it ended."""

from datetime import datetime
from typing import Final, NamedTuple

from raa_planner.domain.attempts import End
from raa_planner.domain.bounds import current_deadline, first_stall, milliseconds
from raa_planner.domain.task import Phase, Task
from raa_schemas.ids import TaskId
from raa_schemas.plan import Citations
from raa_schemas.task import Durations, State, TaskDone, TaskStatus


class Standing(NamedTuple):
    """A phase in the client's words: its state, and what it waits for."""

    state: State
    waiting_for: str | None


_STANDINGS: Final[dict[Phase, Standing]] = {
    "new": Standing("admitted", None),
    "marked": Standing("admitted", None),
    "queued": Standing("admitted", "its turn"),
    "preparing": Standing("planning", "a plan"),
    "planning": Standing("planning", "a plan"),
    "verifying": Standing("verifying", "safety"),
    "running": Standing("running", "its steps"),
    "reflecting": Standing("reflecting", "the reflector"),
    "ended": Standing("ended", None),
}


def status_of(task: Task, task_id: TaskId, now: datetime) -> TaskStatus:
    """Say where a task stands, what it waits for and until when."""
    standing, until = _standing(task, now)
    return TaskStatus(
        task_id=task_id,
        state=standing.state,
        attempt=task.attempt if task.begun or task.plan_version or task.activity else 0,
        steps_done=task.steps_done,
        steps_total=task.steps_total,
        waiting_for=standing.waiting_for,
        waiting_until=until,
        cost_microusd=task.cost_microusd,
        memory_degraded=task.memory_degraded,
    )


def gist(status: TaskStatus) -> str:
    """Sum up a status; two of the same gist tell a client nothing new."""
    return (
        f"{status.state} {status.attempt} {status.steps_done}/{status.steps_total} {status.waiting_for} "
        f"{status.waiting_until} {status.memory_degraded}"
    )


def _standing(task: Task, now: datetime) -> tuple[Standing, datetime | None]:
    if task.phase == "ended":
        return _STANDINGS["ended"], None
    if found := first_stall(task):
        letter, stall = found
        more = f" and {len(task.stalls) - 1} more" if len(task.stalls) > 1 else ""
        what = f"{stall.dead_type} {letter}".rstrip()
        return Standing("stalled", f"a redrive of {what} from {stall.topic}{more}"), stall.until
    if task.approvals:
        first = min(task.approvals.values(), key=lambda approval: approval.expires_at)
        return Standing("waiting_approval", f"a person to decide on step {first.step!r}"), first.expires_at
    not_before = task.asked.constraints.not_before
    if task.phase == "queued" and not_before is not None and not_before > now:
        return Standing("admitted", "its time"), not_before
    return _STANDINGS[task.phase], current_deadline(task, now)


def task_done(task: Task, task_id: TaskId, end: End, now: datetime) -> TaskDone:
    """Write the last word on a task."""
    run = task.run_end if end.outcome == "succeeded" else None
    artifacts = task.run_end.artifacts if task.run_end else []
    return TaskDone(
        task_id=task_id,
        outcome=end.outcome,
        result=run.result if run else None,
        result_ref=run.result_ref if run else None,
        error=end.error,
        checked=end.checked,
        artifacts=artifacts,
        lessons_used=task.plan.lessons if task.plan else [],
        lessons_learned=task.lessons_learned,
        cost_microusd=task.cost_microusd,
        attempts=task.executed,
        durations=_durations(task, now),
        memory_degraded=task.memory_degraded,
        citations=task.citations if task.citations != Citations() else None,
        trace_id=task.trace_id,
        origin=task.origin,
    )


def _durations(task: Task, now: datetime) -> Durations:
    total = milliseconds(task.received_at, now)
    return Durations(total_ms=total, planning_ms=task.planning_ms, running_ms=task.running_ms)
