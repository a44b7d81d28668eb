"""Events of a small task, as they would lie on a bus; for tests of whoever reads them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from raa_client.observed import Observed
from raa_schemas.envelope import Envelope
from raa_schemas.errors import error
from raa_schemas.event import Event
from raa_schemas.plan import Finding, Grant, Limits, Plan, PlanProposed, PlanReady, PlanRejected, Step
from raa_schemas.reflection import (
    CheckReport,
    Episode,
    Evidence,
    Hypothesis,
    Label,
    Lesson,
    ReflectionDone,
    Scope,
    When,
)
from raa_schemas.step import StepDone, StepStarted
from raa_schemas.task import TaskCreated, TaskDone

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
TASK = "t1"
LESSON = Lesson(
    id="les_1", kind="recover", scope=Scope(family="table.aggregate", tool="table.query"), when=When(),
    then={"args": {"table": {"read": {"decimal": ","}}}}, text="Numbers use a decimal comma.",
    evidence=Evidence(failed=["v1/mean"], fixed=["v2/mean"]),
)  # fmt: skip


def observed(events: Sequence[Event], tenant: str = "default") -> list[Observed]:
    """Put events one second apart on one partition."""
    return [_observed(event, number, tenant) for number, event in enumerate(events)]


def _observed(event: Event, number: int, tenant: str) -> Observed:
    envelope = Envelope(
        id=f"event-{number}", source="test", type=event.event_type(), time=NOON + timedelta(seconds=number),
        subject=event.task_id, tenant=tenant, dataschema=event.schema_name(),
    )  # fmt: skip
    return Observed(event, envelope, tenant, event.event_type(), 0, number)


def plan(version: int, *steps: Step, lessons: Sequence[str] = ()) -> Plan:
    origin: Any = "model" if version == 1 else "replan"
    return Plan(version=version, origin=origin, lessons=list(lessons), steps=list(steps),
                result={"ref": steps[-1].id, "path": ""})  # fmt: skip


def proposed(made: Plan, attempt: int, hypotheses: Sequence[Hypothesis] = ()) -> PlanProposed:
    return PlanProposed(task_id=TASK, plan=made, attempt=attempt, goal="a mean", hypotheses=list(hypotheses),
                        limits=Limits(deadline=NOON))  # fmt: skip


def ready(said: PlanProposed) -> PlanReady:
    grant = Grant(step="mean", tool="table.query", args_hash="sha256:0", policy_version="p", expires_at=NOON,
                  key_id="k", signature="s")  # fmt: skip
    return PlanReady(**dict(said), grants={step.id: grant for step in said.plan.steps})


def rejected(version: int, message: str) -> PlanRejected:
    return PlanRejected(task_id=TASK, plan_version=version, findings=[Finding(code="cycle", message=message)])


def started(version: int, step: str) -> StepStarted:
    return StepStarted(task_id=TASK, plan_version=version, step=step, tool="table.query", deadline=NOON)


def failed(version: int, step: str) -> StepDone:
    return StepDone(task_id=TASK, plan_version=version, step=step, tool="table.query", run_seq=1, run_status="failed",
                    outcome="failed", error=error("not_numeric", "7 of 9 values are not numbers"))  # fmt: skip


def succeeded(version: int, step: str, output: Any, *, last: bool = True) -> StepDone:
    return StepDone(task_id=TASK, plan_version=version, step=step, tool="table.query", run_seq=1, output=output,
                    run_status="succeeded" if last else "running", outcome="succeeded",
                    result=output if last else None)  # fmt: skip


def reflection(
    version: int, verdict: Any, *, check: CheckReport | None = None, lessons: Sequence[Lesson] = ()
) -> ReflectionDone:
    return ReflectionDone(
        task_id=TASK, plan_version=version, verdict=verdict, reason="because", checked=check is not None, check=check,
        label=Label(value=1, source="checker", confidence=1), lessons=list(lessons),
        episode=Episode(attempt=version, plan_hash="sha256:0"),
    )  # fmt: skip


def recovery() -> list[Event]:
    """Tell of a task that stumbles over a decimal comma, is rejected once, and then succeeds."""
    mean = Step(id="mean", tool="table.query", args={"table": {"file": "a.csv"}})
    profile = Step(id="profile", tool="table.profile", args={"table": {"file": "a.csv"}})
    informed = Step(id="mean", tool="table.query", args={"missing": {"ref": "profile", "path": "/suspects"}})
    first, second = proposed(plan(1, mean), 1), proposed(plan(2, mean), 2)
    look = Hypothesis(kind="inspect_values", tool="table.profile", file="a.csv", columns=["x"])
    third = proposed(plan(3, profile, informed, lessons=["les_0"]), 2, [look])
    holds = CheckReport(check="result >= 0", value=True)
    return [
        TaskCreated(task_id=TASK, goal="a mean", success_check="result >= 0"),
        first, ready(first), started(1, "mean"), failed(1, "mean"), reflection(1, "replan"),
        second, rejected(2, "the steps form a circle"),
        third, ready(third), succeeded(3, "profile", {"suspects": [-9]}, last=False), succeeded(3, "mean", 2.5),
        reflection(3, "accept", check=holds, lessons=[LESSON]),
        TaskDone(task_id=TASK, outcome="succeeded", result=2.5, checked=True, attempts=2, lessons_learned=["les_1"]),
    ]  # fmt: skip
