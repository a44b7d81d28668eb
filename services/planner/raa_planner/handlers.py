"""The way of a task, one function per event: look up what it means now, let the domain decide, publish.

    task.created → admitted → (queue) → prepare → plan → plan.proposed ⇄ plan.rejected
                 → plan.ready → step.done … → reflection.done → task.done, or the next plan

All handlers are pure: they may run again after a lost race, and the one conditional write makes them happen once.
What an event means in which phase is the table in `domain/transitions.py`; only `standing.end` publishes task.done.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from raa_planner import standing
from raa_planner.domain import attempts, bounds
from raa_planner.domain.admission import Arrival, Rules, admit, refusal
from raa_planner.domain.attempts import End
from raa_planner.domain.endings import status_of
from raa_planner.domain.planning import (
    ModelSaid,
    Prepared,
    adopt,
    cited,
    model_failed,
    next_look,
    preparation_failed,
    proposal,
    question_key,
    take_prepared,
    ticket_of,
    to_prepare,
)
from raa_planner.domain.prompt import brief_of
from raa_planner.domain.scheduler import FairQueue
from raa_planner.domain.task import REFLECTED_AT, Task
from raa_planner.domain.transitions import Incoming, decide
from raa_runtime.unit import Completed, Received, Unit
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.cancel import CancelRequested
from raa_schemas.errors import error
from raa_schemas.ids import TaskId, owned
from raa_schemas.plan import Plan, PlanReady, PlanRejected
from raa_schemas.redrive import RedriveDone
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepDone
from raa_schemas.task import Origin, TaskCreated, TaskDone, TaskStalled
from raa_schemas.topics import tenant_topic

PREPARE: Final = "prepare"
PLAN: Final = "plan"
TURN: Final = "turn"
HORIZON: Final = "horizon"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an activity may take, and how long a dead letter may wait for its redrive.

    `arrival`: how long a cancel waits for a task that has not come, which is as long as an event may create one.
    """

    prepare: timedelta = timedelta(minutes=10)
    plan: timedelta = timedelta(minutes=5)
    redrive: timedelta = bounds.STALL_PATIENCE
    arrival: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class TaskHandlers:
    """Handlers of the aggregate `task`. `tenant_topics`: copy task.done to the tenant's own topic."""

    queue: FairQueue
    rules: Rules = field(default_factory=Rules)
    patience: Patience = field(default_factory=Patience)
    tenant_topics: bool = False

    def on_task_created(self, unit: Unit[Task], event: Received[TaskCreated]) -> None:
        """Admit the task, and begin at once if it is its turn. A second submission of the same id changes nothing."""
        if not _concerns(unit, "created"):
            return
        task = unit.state
        if task.phase == "marked":
            unit.take_context(event)  # the mark was made by a cancel, which knew nothing of the task
        where = Origin(topic=event.origin.topic, partition=event.origin.partition, offset=event.origin.offset)
        trace = unit.aggregate.context.traceparent  # the record's own, or one that was made for the task
        deadline = admit(task, event.data, Arrival(unit.task_id, event.time, where, trace), unit.now)
        unit.set_deadline(deadline)
        if end := self._never_begun(unit, event.data, deadline):
            self._end(unit, end)
            return
        unit.clear_timer(HORIZON)
        unit.set_timer(standing.DEADLINE, deadline)
        task.phase = "queued"
        bounds.end_stalls_by(task, deadline)
        standing.wait_for_redrives(unit)
        self._begin_in_turn(unit)
        standing.tell(unit)

    def _never_begun(self, unit: Unit[Task], request: TaskCreated, deadline: datetime) -> End | None:
        if unit.state.cancelled_by is not None:
            return _cancelled(unit.state)
        if unit.closed:
            return End("failed", error("stalled", "an event of this id died long before its task came; use another id"))
        if (reason := refusal(request, self.rules)) is not None:
            return End("rejected", reason)
        if deadline <= unit.now:
            return End("expired", error("deadline_exceeded", "the deadline had passed when the task was taken up"))
        return None

    def _begin_in_turn(self, unit: Unit[Task]) -> None:
        task = unit.state
        ticket = ticket_of(task, unit.id, unit.tenant, unit.now)
        if self.queue.claim(ticket, unit.now):
            self._begin(unit)
        else:
            unit.set_timer(TURN, next_look(ticket, unit.now))

    def _mark(self, unit: Unit[Task]) -> None:
        """Wait for a task that is not here yet, as long as it may still arrive."""
        unit.state.phase = "marked"
        unit.set_timer(HORIZON, unit.now + self.patience.arrival)

    def begin(self, unit: Unit[Task], _: None = None) -> bool:
        """Begin a task whose turn the queue says it is; False if no such task is under way (any more)."""
        if not _concerns(unit, "begin"):
            return decide(unit.state.phase, "begin").act == "begun"
        self._begin(unit)
        standing.tell(unit)
        return True

    def on_turn(self, unit: Unit[Task], _: str) -> None:
        """Look again whether it is this task's turn: after a restart this brings the queue back."""
        if decide(unit.state.phase, "turn").act == "begin":
            self._begin_in_turn(unit)
            if unit.state.phase != "queued":
                standing.tell(unit)

    def _begin(self, unit: Unit[Task]) -> None:
        unit.clear_timer(TURN)
        task = unit.state
        task.begun = True
        wanted = to_prepare(task)
        if wanted is None:
            self._make_plan(unit)
            return
        task.phase = "preparing"
        task.activity = unit.start(
            PREPARE, wanted.model_dump(mode="json"), effect="read", timeout=self._time_for(unit, self.patience.prepare)
        )

    def on_prepared(self, unit: Unit[Task], done: Completed) -> None:
        """Take inputs and lessons over and ask for a plan; inputs that cannot be had end the task."""
        if not _awaited(unit, "prepared", done):
            return
        unit.state.planning_ms += done.duration_ms
        if done.outcome != "done":
            self._end(unit, preparation_failed(done.error))
            return
        take_prepared(unit.state, Prepared.model_validate(done.result))
        self._make_plan(unit)
        standing.progressed(unit)

    def _make_plan(self, unit: Unit[Task]) -> None:
        given = unit.state.asked.plan
        if given is not None:
            self._propose(unit, given)
        else:
            self._ask_model(unit)

    def _ask_model(self, unit: Unit[Task]) -> None:
        task = unit.state
        if bounds.overspent(task):
            self._end(unit, End("budget_exhausted", attempts.budget_error(task)))
            return
        bounds.close_approvals(task, list(task.approvals), unit.now)  # they were about the plan that is left behind
        brief = brief_of(task)
        task.phase, task.shown = "planning", brief.shown
        task.activity = unit.start(
            PLAN,
            {"brief": brief.model_dump(mode="json", by_alias=True), "budget": bounds.remaining_microusd(task)},
            effect="keyed",
            key=question_key(task, unit.id, unit.deployment),
            timeout=self._time_for(unit, self.patience.plan),
        )

    def on_planned(self, unit: Unit[Task], done: Completed) -> None:
        """Propose what the model planned; `cannot` ends the task, garbage is told to the model once."""
        if not _awaited(unit, "planned", done):
            return
        task = unit.state
        task.planning_ms += done.duration_ms
        if done.outcome != "done":
            self._end(unit, model_failed(done.error))
            return
        said = ModelSaid.model_validate(done.result)
        task.cost_microusd += said.cost_microusd
        task.citations = cited(task, said.citations)
        if said.plan is not None:
            self._propose(unit, said.plan)
        elif said.cannot is not None:
            self._end(unit, End("failed", error("cannot", said.cannot)))
        elif end := attempts.misread(task, said.garbage or "it is empty"):
            self._end(unit, end)
        else:
            self._ask_model(unit)
        standing.progressed(unit)

    def _propose(self, unit: Unit[Task], plan: Plan) -> None:
        task = unit.state
        if end := attempts.objection(task, plan):
            self._end(unit, end)
            return
        adopted = adopt(task, plan)
        unit.publish(proposal(task, TaskId(unit.task_id), adopted, unit.now))

    def on_plan_ready(self, unit: Unit[Task], event: Received[PlanReady]) -> None:
        """Count the attempt: safety let the plan run."""
        if _concerns(unit, "ready", event.data.plan.version):
            attempts.begin_run(unit.state, unit.now)
            standing.progressed(unit)

    def on_plan_rejected(self, unit: Unit[Task], event: Received[PlanRejected]) -> None:
        """Have the model repair the plan by safety's findings; a client's own plan ends the task."""
        if not _concerns(unit, "rejected", event.data.plan_version):
            return
        if end := attempts.reject(unit.state, event.data.findings):
            self._end(unit, end)
        else:
            self._ask_model(unit)
        standing.progressed(unit)

    def on_step_done(self, unit: Unit[Task], event: Received[StepDone]) -> None:
        """Count a settled step and its cost; the terminal one lets a waiting verdict speak."""
        if not _concerns(unit, "step", event.data.plan_version):
            return
        task, done = unit.state, event.data
        if task.phase == "verifying":
            attempts.begin_run(task, unit.now)  # plan.ready is still under way on its own topic
        attempts.count_step(task, done, unit.now)
        bounds.settle_approvals(task, done, unit.now)
        if not done.terminal and bounds.overspent(task):
            self._end(unit, End("budget_exhausted", attempts.budget_error(task)))
        self._settle(unit)
        standing.progressed(unit)

    def on_reflection_done(self, unit: Unit[Task], event: Received[ReflectionDone]) -> None:
        """Keep the verdict; once the run has ended too, end the task or plan again with what was learned."""
        if not _concerns(unit, "reflected", event.data.plan_version):
            return
        task = unit.state
        if event.data.memory == "on":
            task.reflections.append(event.id)
            unit.mark(REFLECTED_AT, unit.now.timestamp())
        task.verdict = event.data
        self._settle(unit)
        standing.progressed(unit)

    def _settle(self, unit: Unit[Task]) -> None:
        task = unit.state
        if task.run_end is None or task.verdict is None:
            return
        attempts.learn(task, task.verdict.lessons)
        if end := attempts.judge(task, task.run_end, task.verdict):
            self._end(unit, end)
        else:
            self._ask_model(unit)

    def on_approval_requested(self, unit: Unit[Task], event: Received[ApprovalRequested]) -> None:
        """Stop the task's clock while a person is asked."""
        if not _concerns(unit, "asked", event.data.plan_version):
            return
        if not bounds.open_approval(unit.state, event.data, unit.now):
            unit.ignore("this question is open or decided already")
            return
        standing.progressed(unit)

    def on_approval_decided(self, unit: Unit[Task], event: Received[ApprovalDecided]) -> None:
        """Start the clock again when the question is closed. Safety, not we, acts on the decision."""
        if not _concerns(unit, "decided"):
            return
        if bounds.note_decision(unit.state, event.data, unit.now):
            standing.progressed(unit)

    def on_approval_expired(self, unit: Unit[Task], _: str) -> None:
        """Start the clock again when nobody decided in time."""
        if decide(unit.state.phase, "approval").act == "resume":
            bounds.close_approvals(unit.state, bounds.expired_approvals(unit.state, unit.now), unit.now)
            standing.wind(unit)
            standing.tell(unit)

    def on_task_stalled(self, unit: Unit[Task], event: Received[TaskStalled]) -> None:
        """Show which dead letter holds the task up, and wait for its redrive, at most until the deadline."""
        if not _concerns(unit, "dead"):
            return
        task = unit.state
        if not bounds.stall(task, event.data, unit.now, self.patience.redrive):
            unit.ignore("this dead letter is solved already")
            return
        if task.phase in {"new", "marked"}:
            self._mark(unit)
        standing.wait_for_redrives(unit)
        standing.tell(unit)

    def on_redrive_done(self, unit: Unit[Task], event: Received[RedriveDone]) -> None:
        """Go on once the last dead letter is solved; one that was dropped ends the task it held up."""
        done = event.data
        if done.outcome == "refused":
            unit.ignore("the dead letter still waits")
            return
        if not _concerns(unit, "solved"):
            return
        task = unit.state
        if done.outcome == "dropped" and done.letter in task.stalls and standing.is_known(task):
            task.stalls = {done.letter: task.stalls[done.letter]}
            self._end(unit, End("failed", bounds.stall_error(task, done.reason)))
            return
        bounds.solve(task, done.letter)
        if task.phase == "new":
            self._mark(unit)
            return
        if done.group == "planner" and done.outcome == "handled":
            task.told = None  # its quarantine was told past the state
        standing.wait_for_redrives(unit)
        standing.tell(unit)

    def on_cancel_requested(self, unit: Unit[Task], event: Received[CancelRequested]) -> None:
        """End the task; a cancel that is here before its task leaves a mark for it."""
        if not _concerns(unit, "cancel"):
            return
        task = unit.state
        task.cancelled_by, task.cancel_reason = event.data.requested_by, event.data.reason
        if standing.is_known(task):
            self._end(unit, _cancelled(task))
        else:
            self._mark(unit)

    def on_deadline(self, unit: Unit[Task], _: str) -> None:
        """End the task as expired, or by the dead letter that held it up until now."""
        if decide(unit.state.phase, "deadline").act != "end":
            return
        if unit.state.stalls:
            self._end(unit, End("failed", bounds.stall_error(unit.state)))
        else:
            self._end(unit, End("expired", error("deadline_exceeded", f"the deadline passed while {_doing(unit)}")))

    def on_stall_over(self, unit: Unit[Task], _: str) -> None:
        """End the task as failed: nobody redrove the dead letter in time."""
        if decide(unit.state.phase, "stalled").act == "end":
            self._end(unit, End("failed", bounds.stall_error(unit.state)))

    def on_horizon(self, unit: Unit[Task], _: str) -> None:
        """Forget a mark whose task never came."""
        if decide(unit.state.phase, "horizon").act == "forget":
            unit.close()

    def _end(self, unit: Unit[Task], how: End) -> None:
        standing.end(unit, how, self._copies(unit))

    def _copies(self, unit: Unit[Task]) -> Collection[str]:
        reply_to = unit.state.request.reply_to if unit.state.request else None
        copies = [] if reply_to is None or reply_to not in self.rules.reply_topics else [reply_to]
        own = owned(unit.deployment, tenant_topic(unit.tenant, TaskDone))
        return [*copies, own] if self.tenant_topics else copies

    def _time_for(self, unit: Unit[Task], longest: timedelta) -> timedelta:
        left = bounds.current_deadline(unit.state, unit.now) - unit.now
        return min(longest, max(left, timedelta(seconds=1)))


def _concerns(unit: Unit[Task], incoming: Incoming, plan_version: int | None = None) -> bool:
    """Look the event up in the table; what does not concern the task now is ignored, with the reason."""
    decision = decide(unit.state.phase, incoming)
    if decision.ignored_because is not None:
        unit.ignore(decision.ignored_because)
    elif plan_version is not None and plan_version != unit.state.plan_version:
        unit.ignore(f"about plan version {plan_version}, not {unit.state.plan_version}")
    return unit.ignored is None


def _awaited(unit: Unit[Task], incoming: Incoming, done: Completed) -> bool:
    """Say whether the task waits for this activity. Never ignores: that it is over must be stored in any case."""
    decision = decide(unit.state.phase, incoming)
    if decision.ignored_because is not None or done.activity_id != unit.state.activity:
        return False
    unit.state.activity = None
    return True


def _cancelled(task: Task) -> End:
    reason = f": {task.cancel_reason}" if task.cancel_reason else ""
    return End("cancelled", error("cancelled", f"cancelled by {task.cancelled_by}{reason}"))


def _doing(unit: Unit[Task]) -> str:
    waiting_for = status_of(unit.state, TaskId(unit.task_id), unit.now).waiting_for
    return f"{unit.state.phase}, waiting for {waiting_for}"
