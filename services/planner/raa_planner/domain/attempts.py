"""Attempts: what a settled run and its verdict mean, and whether there may be another plan."""

from datetime import datetime
from typing import NamedTuple

from raa_planner.domain.bounds import milliseconds, overspent, spend_try
from raa_planner.domain.task import Attempt, FailedStep, Rejection, RunEnd, Task
from raa_schemas.artifact import Source
from raa_schemas.errors import CODES, ErrorInfo, error
from raa_schemas.plan import Finding, Plan
from raa_schemas.recall import Recalled, Why
from raa_schemas.reflection import Hypothesis, Lesson, ReflectionDone
from raa_schemas.step import StepDone
from raa_schemas.task import TaskOutcome


class End(NamedTuple):
    """How a task ends."""

    outcome: TaskOutcome
    error: ErrorInfo | None = None
    checked: bool = False


def judged_late(task: Task, end: End, now: datetime) -> End:
    """Give a failure after the deadline as what it is: whatever was refused for being late, the task has expired.

    A task that a dead letter held up fails of that, and one that waits for a person has time.
    """
    late = task.deadline is not None and now >= task.deadline and not task.approvals and not task.stalls
    if end.outcome != "failed" or not late:
        return end
    why = f": {end.error.message}" if end.error else ""
    return End("expired", error("deadline_exceeded", f"the deadline passed{why}"))


def begin_run(task: Task, now: datetime) -> None:
    """Count the current plan as executed; `max_attempts` bounds these."""
    task.phase = "running"
    task.executed += 1
    task.running_since = now
    task.rejection = None


def count_step(task: Task, done: StepDone, now: datetime) -> None:
    """Add up one settled step; the terminal one ends the run and says what it spent of the tries."""
    task.steps_done = max(task.steps_done, done.steps_done)
    task.steps_total = max(task.steps_total, done.steps_total)
    task.cost_microusd += done.usage.cost_microusd
    if not done.terminal:
        return
    task.tries_left = max(0, task.tries_left - done.retries_used)
    task.running_ms += milliseconds(task.running_since, now)
    task.running_since = None
    task.phase = "reflecting"
    task.run_end = RunEnd(
        status=done.run_status,
        result=done.result,
        result_ref=done.result_ref,
        artifacts=done.artifacts,
        failed_step=_failed_step(done),
    )


def _failed_step(done: StepDone) -> FailedStep | None:
    records = [(record.definition.id, record.definition.tool, record.error) for record in done.manifest or []]
    for step, tool, problem in [*records, (done.step, done.tool, done.error)]:
        if problem is not None:
            return FailedStep(step=step, tool=tool, error=problem)
    return None


def judge(task: Task, run: RunEnd, verdict: ReflectionDone) -> End | None:
    """Decide what a verdict on a settled run means: the end of the task, or None for another plan.

    Another plan costs one try, and is made ready here: what failed goes into the history the next prompt shows.
    """
    if verdict.verdict == "accept":
        held = verdict.checked and (verdict.check is None or verdict.check.value)
        return End("succeeded", checked=held)
    if verdict.verdict == "give_up":
        return End("failed", _given_up(run, verdict))
    return _another_plan(task, run, verdict)


def _given_up(run: RunEnd, verdict: ReflectionDone) -> ErrorInfo:
    """Name the step's own error where one failed: it says more than that reflection found nothing to try."""
    if run.failed_step is not None:
        problem = run.failed_step.error
        details = problem.details | {"reflection": verdict.reason}
        return problem.model_copy(update={"step_id": run.failed_step.step, "details": details})
    details = {"check": verdict.check.model_dump(mode="json")} if verdict.check is not None else {}
    return error("gave_up", verdict.reason or None, **details)


def _another_plan(task: Task, run: RunEnd, verdict: ReflectionDone) -> End | None:
    if task.plan is None or task.asked.plan is not None:
        return End("failed", _given_up(run, verdict))  # a client's plan is fixed: nobody may write another
    attempt = Attempt(
        number=task.attempt,
        plan=task.plan,
        failed_step=run.failed_step,
        check=verdict.check,
        hypotheses=verdict.hypotheses,
    )
    step_id = run.failed_step.step if run.failed_step else None
    if task.executed >= task.asked.constraints.max_attempts:
        message = f"all {task.executed} attempts were used; the last one failed at {attempt.failure()}"
        return End("failed", error("attempts_exhausted", message, step_id=step_id))
    if overspent(task):
        return End("budget_exhausted", budget_error(task))
    if not spend_try(task):
        return End("failed", tries_error(attempt.failure()))
    task.earlier.append(attempt)
    task.repairs = 0
    task.rejection = task.run_end = task.verdict = None
    task.steps_done = task.steps_total = 0
    return None


def objection(task: Task, plan: Plan) -> End | None:
    """Say why a new plan may not be proposed: it equals one that failed, or one that was just rejected."""
    made = plan.content_hash()
    for attempt in task.earlier:
        if attempt.plan.content_hash() == made:
            why = f"the new plan equals that of attempt {attempt.number}, which failed at {attempt.failure()}"
            return End("failed", error("no_new_plan", why))
    if made in task.rejected_hashes and task.rejection is not None:
        return End("failed", rejection_error(task.rejection))
    return None


def reject(task: Task, findings: list[Finding]) -> End | None:
    """Take in safety's findings: the end of the task, or None for a repair, which costs one try."""
    rejection = Rejection(plan=task.plan, findings=findings)
    if task.plan is not None:
        task.rejected_hashes.append(task.plan.content_hash())
    if any(finding.code == "budget_exhausted" for finding in findings):
        return End("budget_exhausted", budget_error(task))  # no other plan would cost less than nothing
    if task.asked.plan is not None:
        return End("failed", rejection_error(rejection))
    if not spend_try(task):
        return End("failed", tries_error(f"safety's rejection: {rejection_error(rejection).message}"))
    task.rejection = rejection
    task.repairs += 1
    return None


def misread(task: Task, why: str) -> End | None:
    """Take in an answer without a plan: None for one more question, which costs one try, else the end."""
    asked_again = task.rejection is not None and task.rejection.plan is None
    if asked_again or not spend_try(task):
        return End("failed", error("model_garbage", f"the model's answer holds no usable plan: {why}"))
    task.rejection = Rejection(
        findings=[
            Finding(
                code="model_garbage",
                message=f"your answer could not be used: {why}",
                hint="answer with one JSON object of the schema and nothing else",
            )
        ]
    )
    task.repairs += 1
    return None


def rejection_error(rejection: Rejection) -> ErrorInfo:
    """Tell a client why a plan was rejected: all findings, and the code of the first if clients know it."""
    first = rejection.findings[0] if rejection.findings else Finding(code="plan_invalid", message="no reason given")
    told = "; ".join(f"{one.step}: {one.message}" if one.step else one.message for one in rejection.findings)
    return error(
        first.code if first.code in CODES else "plan_invalid",
        told or None,
        step_id=first.step,
        findings=[finding.model_dump(mode="json", exclude_none=True) for finding in rejection.findings],
    )


def budget_error(task: Task) -> ErrorInfo:
    """Say how much was spent of how much."""
    budget = task.asked.constraints.budget_microusd
    return error(
        "budget_exhausted",
        f"{task.cost_microusd} of {budget} micro-USD are spent",
        cost_microusd=task.cost_microusd,
        budget_microusd=budget,
    )


def tries_error(last: str) -> ErrorInfo:
    """Say that the falling counter reached zero, and at what."""
    return error("tries_exhausted", f"the task's counter of tries reached zero; the last failure was {last}")


def learn(task: Task, lessons: list[Lesson]) -> None:
    """Take the lessons inside reflection.done over for this task's own next plan; with memory off, none."""
    if not task.uses_memory:
        return
    fresh = {lesson.id: own_lesson(lesson, task.sources) for lesson in lessons}
    task.lessons_learned = list(dict.fromkeys([*task.lessons_learned, *fresh]))
    kept = [known for known in task.lessons if known.lesson.id not in fresh]
    task.lessons = [*kept, *fresh.values()]


def own_lesson(lesson: Lesson, sources: list[Source]) -> Recalled:
    """Find the inputs a lesson applies to: the same content, or else the same schema."""
    same = [one.name for one in sources if lesson.when.source_sha256 == one.sha256]
    alike = [
        one.name
        for one in sources
        if lesson.when.schema_hash is not None and lesson.when.schema_hash == one.schema_hash
    ]
    why: list[Why] = [*(["same_content"] if same else []), *(["same_schema"] if alike else [])]  # type: ignore[list-item]
    return Recalled(lesson=lesson, applies_to=list(dict.fromkeys([*same, *alike])), why=why)


def all_hypotheses(task: Task) -> list[Hypothesis]:
    """Collect what the earlier attempts suggest, each once, oldest first."""
    found: list[Hypothesis] = []
    for attempt in task.earlier:
        found += [one for one in attempt.hypotheses if one not in found]
    return found
