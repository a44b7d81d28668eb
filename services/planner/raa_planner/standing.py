"""Where a task stands: its clocks, what is told of it, and its one end."""

from collections.abc import Collection
from typing import Final

from raa_planner.domain import attempts, bounds
from raa_planner.domain.attempts import End
from raa_planner.domain.endings import gist, status_of, task_done
from raa_planner.domain.task import Task
from raa_runtime.unit import Unit
from raa_schemas.cancel import CancelRequested
from raa_schemas.ids import TaskId

DEADLINE: Final = "deadline"
STALLED: Final = "stalled"
APPROVAL: Final = "approval"

_DOWNSTREAM: Final = frozenset({"verifying", "running", "reflecting"})
_EARLY: Final = frozenset({"deadline_exceeded", "budget_exhausted", "stalled"})


def is_known(task: Task) -> bool:
    """Say whether a client waits for it: it was admitted, or died on its way to us."""
    return task.phase not in {"new", "marked"} or any(bounds.is_lost_task(stall) for stall in task.stalls.values())


def progressed(unit: Unit[Task]) -> None:
    """Whatever held the task up is over; tell where it stands."""
    if unit.state.phase == "ended":
        return
    unit.state.stalls.pop("", None)  # a letter of an earlier release has no name by which it could be solved
    wait_for_redrives(unit)
    wind(unit)
    tell(unit)


def wind(unit: Unit[Task]) -> None:
    """Set the clock of the task: its deadline, or while a person is asked the end of the first question."""
    task = unit.state
    if task.approvals:
        unit.clear_timer(DEADLINE)
        unit.set_timer(APPROVAL, min(approval.expires_at for approval in task.approvals.values()))
    elif task.deadline is not None:
        unit.clear_timer(APPROVAL)
        unit.set_timer(DEADLINE, task.deadline)
        unit.set_deadline(task.deadline)


def tell(unit: Unit[Task]) -> None:
    """Publish where the task stands, if that is news; of one that is not here yet, only that it died."""
    if not is_known(unit.state):
        return
    status = status_of(unit.state, TaskId(unit.task_id), unit.now)
    if gist(status) != unit.state.told:
        unit.state.told = gist(status)
        unit.publish(status)


def wait_for_redrives(unit: Unit[Task]) -> None:
    """Set the time at which a dead letter ends the task; before the task is here only its own does."""
    task = unit.state
    until = bounds.stalled_until(task)
    if until is None or not is_known(task):
        unit.clear_timer(STALLED)
    else:
        unit.set_timer(STALLED, until)


def end(unit: Unit[Task], how: End, copies: Collection[str]) -> None:
    """Publish the one task.done of this task and close it; what still runs downstream is told to stop.

    `copies` are the topics that get it beside its own.
    """
    task = unit.state
    how = attempts.judged_late(task, how, unit.now)
    if task.phase in _DOWNSTREAM and how.error is not None and how.error.code in _EARLY:
        why = how.error.message[:2_000]
        unit.publish(CancelRequested(task_id=unit.task_id, requested_by="planner", reason=why))
    task.phase, task.outcome = "ended", how.outcome
    done = task_done(task, TaskId(unit.task_id), how, unit.now)
    tell(unit)
    unit.publish(done)
    for topic in copies:
        unit.publish(done, reply_to=topic)
    unit.close()
