"""The steps from an admitted task to a proposed plan: what has to be prepared, asked and put before safety."""

from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, Field

from raa_planner.domain.admission import REJECTIONS
from raa_planner.domain.attempts import End, all_hypotheses
from raa_planner.domain.bounds import limits_of
from raa_planner.domain.scheduler import Ticket
from raa_planner.domain.task import Task
from raa_schemas.artifact import Artifact, Input, Source
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.ids import TaskId, owned
from raa_schemas.plan import Citations, Plan, PlanProposed
from raa_schemas.recall import Recalled

SHORTEST_LOOK: Final = timedelta(seconds=30)
LONGEST_LOOK: Final = timedelta(minutes=10)


class ToPrepare(BaseModel):
    """The argument of the activity `prepare`: inputs to take in, and the question to memory unless it is off."""

    goal: str
    inputs: list[Input] = Field(default_factory=list)
    recall: bool = True
    allowed_tools: list[str] | None = None


class Prepared(BaseModel):
    """The outcome of the activity `prepare`."""

    sources: list[Source] = Field(default_factory=list)
    manifest: list[Artifact] = Field(default_factory=list)
    lessons: list[Recalled] = Field(default_factory=list)
    recall_digest: str | None = None
    recall_request: str | None = None
    recall_ref: str | None = None
    memory_degraded: bool = False


class ModelSaid(BaseModel):
    """The outcome of the activity `plan`: exactly one of plan, cannot and garbage, and what it cost."""

    plan: Plan | None = None
    cannot: str | None = None
    garbage: str | None = None
    cost_microusd: int = 0
    citations: Citations = Field(default_factory=Citations)


def ticket_of(task: Task, aggregate: str, tenant: str, now: datetime) -> Ticket:
    """Write a task's ticket for the fair queue."""
    asked = task.asked
    return Ticket(
        task=aggregate,
        tenant=tenant,
        admitted_at=task.admitted_at or now,
        priority=asked.constraints.priority,
        not_before=asked.constraints.not_before,
        session=asked.session_id,
    )


def next_look(ticket: Ticket, now: datetime) -> datetime:
    """Say when a waiting task looks at the queue again by itself: at its not-before, else ever more seldom."""
    if ticket.not_before is not None and ticket.not_before > now:
        return ticket.not_before
    return now + min(max(now - ticket.admitted_at, SHORTEST_LOOK), LONGEST_LOOK)


def to_prepare(task: Task) -> ToPrepare | None:
    """Say what has to be prepared; None: nothing, the plan or the prompt can be made at once.

    Inline inputs move from the request into the argument, so that the aggregate never holds them twice. A client's
    own plan needs no lessons, for nobody would read them.
    """
    asked = task.asked
    recall = task.uses_memory and asked.plan is None
    if not asked.inputs and not recall:
        return None
    wanted = ToPrepare(
        goal=asked.goal, inputs=asked.inputs, recall=recall, allowed_tools=asked.constraints.allowed_tools
    )
    bare = [item.model_copy(update={"data": None}) for item in asked.inputs]
    task.request = asked.model_copy(update={"inputs": bare})
    return wanted


def take_prepared(task: Task, prepared: Prepared) -> None:
    """Write down what is known of inputs and lessons."""
    task.sources, task.manifest = prepared.sources, prepared.manifest
    task.lessons, task.recall_digest = prepared.lessons, prepared.recall_digest
    task.recall_request, task.recall_ref = prepared.recall_request, prepared.recall_ref
    task.citations = cited(task, Citations())
    task.memory_degraded = task.memory_degraded or prepared.memory_degraded


def cited(task: Task, citations: Citations) -> Citations:
    """Add what memory was asked and answered to the citations of a decision."""
    recall = {"recall": task.recall_digest, "recall_request": task.recall_request, "recall_ref": task.recall_ref}
    return citations.model_copy(update=recall)


def preparation_failed(problem: ErrorInfo | None) -> End:
    """End a task whose inputs cannot be had: rejected if that is the client's to mend."""
    problem = problem or error("internal", "the inputs could not be prepared")
    return End("rejected" if problem.code in REJECTIONS else "failed", problem)


def question_key(task: Task, aggregate: str, deployment: str) -> str:
    """Name a question to the model: the same for every re-run of it, so that the router replays its answer."""
    return owned(deployment, f"{aggregate}/plan/{task.attempt}.{task.repairs}")


def model_failed(problem: ErrorInfo | None) -> End:
    """End a task whose model did not answer."""
    if problem is not None and problem.code == "budget_exhausted":
        return End("budget_exhausted", problem)
    if problem is not None and problem.code not in {"tool_timeout", "unavailable"}:
        return End("failed", problem)
    return End("failed", error("model_unavailable", problem.message if problem else None))


def adopt(task: Task, plan: Plan) -> Plan:
    """Make a plan the task's next version; of the lessons a model cites only those it was shown count."""
    task.plan_version += 1
    if task.asked.plan is not None:
        task.plan = plan.model_copy(update={"version": task.plan_version, "origin": "client"})
    else:
        cited = [lesson for lesson in dict.fromkeys(plan.lessons) if lesson in task.shown]
        origin = "replan" if task.earlier else "model"
        task.plan = plan.model_copy(update={"version": task.plan_version, "origin": origin, "lessons": cited})
    task.phase = "verifying"
    task.steps_done, task.steps_total = 0, len(plan.steps)
    return task.plan


def proposal(task: Task, task_id: TaskId, plan: Plan, now: datetime) -> PlanProposed:
    """Put a plan before safety, with everything executor and reflector will need of the task."""
    return PlanProposed(
        task_id=task_id,
        plan=plan,
        attempt=task.attempt,
        goal=task.asked.goal,
        success_check=task.asked.success_check,
        manifest=task.manifest,
        sources=task.sources,
        hypotheses=all_hypotheses(task),
        lessons_shown=task.shown,
        limits=limits_of(task, now),
        citations=task.citations,
    )
