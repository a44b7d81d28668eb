"""One function per consumed event: what arrived is kept until an attempt is complete, then it is judged once.

Events may come in any order. Each plan version is judged once: a version that was judged, or lies before one that was,
is ignored, and so is everything about a task that has ended.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from raa_reflector.activities import FETCH
from raa_reflector.domain.attempt import gather, wanted_references
from raa_reflector.domain.case import Case, planned_from, planned_from_run, ran_from
from raa_reflector.domain.judge import judge
from raa_reflector.domain.report import reflection, unjudgeable
from raa_runtime.unit import Completed, Received, Unit
from raa_schemas.cancel import CancelRequested
from raa_schemas.plan import PlanReady
from raa_schemas.step import StepDone
from raa_schemas.task import TaskCreated

Task = Unit[Case]
PARTIAL, END = "partial", "end"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the reflector waits: for missing evidence, for a blob, and after a task's deadline."""

    evidence: timedelta
    fetch: timedelta
    linger: timedelta


def on_task_created(unit: Task, event: Received[TaskCreated], *, patience: Patience) -> None:
    """Remember what the task wants and whether it may be learned from; judges runs that waited for it."""
    state, task = unit.state, event.data
    if state.phase == "ended" or state.memory is not None:
        unit.ignore("the task has ended, or was seen before")
        return
    state.memory, state.goal, state.check = task.constraints.memory, task.goal, task.success_check
    _keep_until(unit, event.time + timedelta(seconds=task.constraints.deadline_seconds), patience)
    _judge_complete(unit, patience)


def on_plan_ready(unit: Task, event: Received[PlanReady], *, patience: Patience) -> None:
    """Remember a cleared plan; judges its run if that was faster."""
    state, plan = unit.state, event.data.plan
    if state.settled(plan.version) or plan.version in state.plans:
        unit.ignore("the task has ended, or this plan is known")
        return
    state.plans[plan.version] = planned_from(event.data, event.time)
    _keep_until(unit, event.data.limits.deadline, patience)
    _judge_complete(unit, patience)


def on_step_done(unit: Task, event: Received[StepDone], *, patience: Patience) -> None:
    """Judge a run by its terminal event, which carries all steps; publishes reflection.done.

    What is missing is waited for, but not for ever: then the run is judged on what is there.
    """
    state, done = unit.state, event.data
    if not done.terminal or state.settled(done.plan_version) or done.plan_version in state.runs:
        unit.ignore("not the end of a run that is still to be judged")
        return
    state.runs[done.plan_version] = ran_from(done)
    if END not in unit.timers:
        _keep_until(unit, event.deadline or unit.now, patience)
    _judge_complete(unit, patience)


def on_cancel_requested(unit: Task, _event: Received[CancelRequested]) -> None:
    """Close the case; a cancel that comes before its task leaves the tombstone that swallows the rest."""
    if unit.state.phase == "ended":
        unit.ignore("the task has ended")
        return
    _close(unit)


def on_fetched(unit: Task, done: Completed) -> None:
    """Judge a run whose large outputs were fetched; without them the evidence is partial."""
    version, wanted = int(done.args["plan_version"]), done.args["references"]
    state = unit.state
    state.fetching = [known for known in state.fetching if known != version]
    if version not in state.runs:
        return  # a later plan was judged, or the task ended, in the meantime
    fetched: dict[str, Any] = done.result if done.outcome == "done" else {}
    _conclude(unit, version, fetched, partial=fetched.keys() != wanted.keys())
    _disarm(unit)


def on_partial(unit: Task, _timer: str) -> None:
    """Judge on what is there: the rest did not come in time."""
    for version in sorted(unit.state.runs):
        if version in unit.state.runs and version not in unit.state.fetching:
            _conclude(unit, version, {}, partial=True)
    _disarm(unit)


def on_end(unit: Task, _timer: str) -> None:
    """Forget a task some time after its deadline."""
    _close(unit)


def _judge_complete(unit: Task, patience: Patience) -> None:
    """Judge what is complete, fetch what it needs first, and start waiting for what is not."""
    state = unit.state
    for version in sorted(state.runs):
        if version not in state.runs or version in state.fetching:
            continue
        if not state.complete(version):
            if PARTIAL not in unit.timers:
                unit.set_timer(PARTIAL, unit.now + patience.evidence)
            continue
        references = wanted_references(state.runs[version], state.known_check(version))
        if references:
            state.fetching.append(version)
            unit.start(FETCH, {"plan_version": version, "references": references}, timeout=patience.fetch)
        else:
            _conclude(unit, version, {}, partial=False)
    _disarm(unit)


def _conclude(unit: Task, version: int, fetched: dict[str, Any], *, partial: bool) -> None:
    """Judge one run, publish reflection.done, and close the case if nothing more is to come."""
    state = unit.state
    ran, check, number = state.runs.pop(version), state.known_check(version), len(state.attempts) + 1
    planned = state.plans.pop(version, None) or planned_from_run(version, number, ran)
    if planned is None or (state.memory is None and planned.ready_at is None):
        unit.publish(unjudgeable(unit.task_id, version, number, ran))
        _close(unit)
        return
    attempt = gather(
        planned.attempt,
        planned.plan,
        planned.sources,
        ran,
        check=check,
        allowed_tools=planned.allowed_tools,
        fetched=fetched,
    )
    learns = state.memory == "on" and not partial
    judgement = judge(unit.task_id, state.attempts, attempt, learns=learns)
    state.attempts.append(attempt.model_copy(update={"hypotheses": judgement.hypotheses}))
    unit.publish(reflection(unit.task_id, planned, attempt, judgement, partial=partial, memory=state.memory or "off"))
    if judgement.verdict == "replan":
        _forget_up_to(state, version)
    else:
        _close(unit)


def _forget_up_to(state: Case, version: int) -> None:
    """Drop plans and runs that a judged one has overtaken."""
    state.plans = {known: planned for known, planned in state.plans.items() if known > version}
    state.runs = {known: ran for known, ran in state.runs.items() if known > version}


def _keep_until(unit: Task, deadline: datetime, patience: Patience) -> None:
    """Keep the case until some time after the latest deadline it heard of."""
    until = deadline + patience.linger
    unit.set_timer(END, max(until, unit.timers.get(END, until)))


def _disarm(unit: Task) -> None:
    if all(version in unit.state.fetching for version in unit.state.runs):
        unit.clear_timer(PARTIAL)


def _close(unit: Task) -> None:
    unit.state.end()
    unit.close()
