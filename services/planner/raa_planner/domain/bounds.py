"""The bounds of a task: its deadline, which stands still while a person is asked, its budget and its tries."""

from datetime import UTC, datetime, timedelta
from typing import Final

from raa_planner.domain.task import MAX_DECIDED_KEPT, MAX_STALLS_KEPT, Approval, Stall, Task
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.plan import Limits
from raa_schemas.step import StepDone
from raa_schemas.task import TaskStalled

STALL_PATIENCE: Final = timedelta(hours=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FINAL_VERDICTS: Final = frozenset({"deny", "give_up"})


def milliseconds(since: datetime | None, now: datetime) -> int:
    """Count the whole milliseconds between two times, never below 0; 0 if there was no start."""
    return 0 if since is None else max(0, (now - since) // _MILLISECOND)


def current_deadline(task: Task, now: datetime) -> datetime:
    """Give the deadline as it would be if the open approvals were decided now."""
    deadline = task.deadline or now
    return deadline if task.clock_stopped_at is None else deadline + (now - task.clock_stopped_at)


def remaining_microusd(task: Task) -> int | None:
    """Give what is left of the budget, never below 0; None: there is no limit."""
    budget = task.asked.constraints.budget_microusd
    return None if budget is None else max(0, budget - task.cost_microusd)


def overspent(task: Task) -> bool:
    """Say whether more than the budget is spent; exactly the budget is allowed, for models may be free."""
    budget = task.asked.constraints.budget_microusd
    return budget is not None and task.cost_microusd > budget


def spend_try(task: Task) -> bool:
    """Take one from the counter that only falls; False when there is none left."""
    if task.tries_left <= 0:
        return False
    task.tries_left -= 1
    return True


def limits_of(task: Task, now: datetime) -> Limits:
    """Give what a run of the next plan may use."""
    constraints = task.asked.constraints
    return Limits(
        deadline=current_deadline(task, now),
        allowed_tools=constraints.allowed_tools,
        max_steps=constraints.max_steps,
        budget_microusd=remaining_microusd(task),
        tries_left=task.tries_left,
    )


def open_approval(task: Task, asked: ApprovalRequested, now: datetime) -> bool:
    """Stop the task's clock for an open question; False if it is open or was decided before it arrived here."""
    if asked.approval_id in task.approvals or asked.approval_id in task.decided:
        return False
    task.approvals[asked.approval_id] = Approval(
        plan_version=asked.plan_version,
        step=asked.step,
        args_hash=asked.args_hash,
        expires_at=asked.expires_at,
        approvers=asked.approvers,
        quorum=asked.quorum,
    )
    task.clock_stopped_at = task.clock_stopped_at or now
    return True


def note_decision(task: Task, decided: ApprovalDecided, now: datetime) -> bool:
    """Count a person's decision; True if it closed the question.

    Safety alone verifies signatures and acts on them. Here a decision only starts the clock again, and the most a
    forged one could do is to let the deadline run on.
    """
    approval = task.approvals.get(decided.approval_id)
    if approval is None:
        if decided.approval_id not in task.decided:
            task.decided = [*task.decided, decided.approval_id][-MAX_DECIDED_KEPT:]
        return False
    if decided.args_hash != approval.args_hash or (approval.approvers and decided.decided_by not in approval.approvers):
        return False
    voters = approval.voters.setdefault(decided.verdict, [])
    if decided.decided_by not in voters:
        voters.append(decided.decided_by)
    if len(voters) < approval.quorum and decided.verdict not in _FINAL_VERDICTS:
        return False
    close_approvals(task, [decided.approval_id], now)
    return True


def close_approvals(task: Task, approval_ids: list[str], now: datetime) -> None:
    """Close questions; with the last one the deadline moves on by the time it stood still."""
    for approval_id in approval_ids:
        task.approvals.pop(approval_id, None)
    task.decided = [*task.decided, *approval_ids][-MAX_DECIDED_KEPT:]
    if not task.approvals and task.clock_stopped_at is not None:
        task.deadline = current_deadline(task, now)
        task.clock_stopped_at = None


def settle_approvals(task: Task, done: StepDone, now: datetime) -> None:
    """Close the questions a settled step answers: its own, and with the end of the run all."""
    place = (done.plan_version, done.step)
    settled = [name for name, one in task.approvals.items() if done.terminal or (one.plan_version, one.step) == place]
    close_approvals(task, settled, now)


def expired_approvals(task: Task, now: datetime) -> list[str]:
    """Name the open questions that nobody answered in time."""
    return [name for name, approval in task.approvals.items() if approval.expires_at <= now]


def stall(task: Task, dead: TaskStalled, now: datetime, patience: timedelta = STALL_PATIENCE) -> bool:
    """Write down which dead letter holds the task up and how long we wait for its redrive; False if it is solved."""
    letter = dead.letter or ""
    if letter in task.solved:
        return False
    until = now + patience
    if task.deadline is not None:
        until = min(until, max(now, current_deadline(task, now)))
    if letter in task.stalls or len(task.stalls) < MAX_STALLS_KEPT:
        task.stalls[letter] = Stall(
            dead_type=dead.dead_type,
            topic=dead.dead_letter_topic,
            message=dead.message,
            until=until,
            group=dead.group,
            fingerprint=dead.fingerprint or "",
        )
    return True


def end_stalls_by(task: Task, deadline: datetime) -> None:
    """Wait for no redrive beyond the deadline, which was not known when an event of the task died before the task."""
    for stalled in task.stalls.values():
        stalled.until = min(stalled.until or deadline, deadline)


def solve(task: Task, letter: str) -> Stall | None:
    """Strike out a dead letter that needs no redrive any more; gives what it was."""
    task.solved = [*(one for one in task.solved if one != letter), letter][-MAX_STALLS_KEPT:]
    return task.stalls.pop(letter, None)


def first_stall(task: Task) -> tuple[str, Stall] | None:
    """Find the dead letter whose time is up first."""
    dated = [(stall.until or datetime.max.replace(tzinfo=UTC), letter) for letter, stall in task.stalls.items()]
    return (letter := min(dated)[1], task.stalls[letter]) if dated else None


def stalled_until(task: Task) -> datetime | None:
    """Say until when a redrive is waited for, None if none is."""
    found = first_stall(task)
    return found[1].until if found else None


def is_lost_task(stall: Stall) -> bool:
    """Say whether it is the task itself that died, so that its client has to hear from us."""
    return stall.group == "planner" and stall.dead_type == "task.created"


def stall_error(task: Task, dropped: str | None = None) -> ErrorInfo:
    """Say which dead letter ended the task, because of its time or a drop, and which command does the task again."""
    found = first_stall(task)
    if found is None:
        return error("stalled")
    letter, stall = found
    why = "nobody redrove it in time" if dropped is None else f"it was dropped: {dropped}"
    again = "" if dropped is None else " --again"  # what was decided once wants to be forced
    details = {"dead_letter_topic": stall.topic, "letter": letter, "fingerprint": stall.fingerprint}
    info = error(
        "stalled",
        f"a {stall.dead_type} of this task became a dead letter, {stall.message}; {why}",
        **{name: value for name, value in details.items() if value},
    )
    if not letter:
        return info
    look = f"`raa dlq show {letter}`; once the cause is mended, "
    return info.model_copy(update={"hint": f"see why: {look}`raa dlq redrive --id {letter} --as-new-task{again}`"})
