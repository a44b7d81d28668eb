"""What the reflector remembers of a task: what was asked, plans and runs that wait for each other, judged attempts."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from raa_reflector.domain.attempt import Attempt, Ran
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_schemas.artifact import Source
from raa_schemas.event import Part
from raa_schemas.plan import Plan, PlanReady, Step
from raa_schemas.step import StepDone

_LONGEST_TEXT: Final = 300


class Planned(Part):
    """A plan that was cleared to run."""

    attempt: int = Field(ge=1, description="which attempt it is for")
    plan: Plan = Field(description="the plan, long texts in its arguments cut")
    plan_hash: str = Field(description="content hash of the whole plan")
    sources: list[Source] = Field(default_factory=list, description="the inputs, without their first lines")
    goal: str = Field("", description="the task's goal")
    check: str | None = Field(None, description="the task's success check")
    allowed_tools: list[str] | None = Field(None, description="tools a plan may use; null: all")
    ready_at: datetime | None = Field(None, description="when it was cleared")


class Case(State):
    """One task. `memory` is None until task.created was seen; plans and runs are kept by plan version until judged."""

    phase: Literal["open", "ended"] = "open"
    memory: Literal["on", "off"] | None = None
    goal: str = ""
    check: str | None = None
    plans: dict[int, Planned] = Field(default_factory=dict)
    runs: dict[int, Ran] = Field(default_factory=dict)
    fetching: list[int] = Field(default_factory=list)
    attempts: list[Attempt] = Field(default_factory=list)

    def settled(self, plan_version: int) -> bool:
        """Say whether nothing remains to be said about a plan: the case ended, or it or a later one was judged."""
        return self.phase == "ended" or any(attempt.plan.version >= plan_version for attempt in self.attempts)

    def complete(self, plan_version: int) -> bool:
        """Say whether all evidence on a plan has arrived."""
        return self.memory is not None and plan_version in self.plans and plan_version in self.runs

    def known_check(self, plan_version: int) -> str | None:
        """Give the success check, from whatever has arrived."""
        planned = self.plans.get(plan_version)
        return planned.check if planned is not None else self.check

    def end(self) -> None:
        """Forget what no longer matters."""
        self.phase = "ended"
        self.plans, self.runs, self.fetching, self.attempts = {}, {}, [], []


def tombstone(state: Case) -> Case:
    """Keep of an ended task only that it ended."""
    return Case(phase=state.phase)


CASE = Kind("case", Case, tombstone=tombstone)


def planned_from(event: PlanReady, ready_at: datetime) -> Planned:
    """Keep of a cleared plan what judging needs."""
    return Planned(
        attempt=event.attempt,
        plan=_slim(event.plan),
        plan_hash=event.plan.content_hash(),
        sources=[source.model_copy(update={"head": []}) for source in event.sources],
        goal=event.goal,
        check=event.success_check,
        allowed_tools=event.limits.allowed_tools,
        ready_at=ready_at,
    )


def planned_from_run(plan_version: int, attempt: int, ran: Ran) -> Planned | None:
    """Rebuild a plan from the steps of its run, without its result and sources; None if it lists no steps."""
    if not ran.records:
        return None
    plan = Plan(version=plan_version, steps=[record.definition for record in ran.records])
    return Planned(attempt=attempt, plan=_slim(plan), plan_hash=plan.content_hash())


def ran_from(event: StepDone) -> Ran:
    """Keep of a terminal step.done what judging needs."""
    return Ran(
        status=event.run_status,
        records=event.manifest or [],
        result=event.result,
        result_ref=event.result_ref,
        error=event.error,
        artifacts=event.artifacts,
    )


def _slim(plan: Plan) -> Plan:
    steps = [Step.model_copy(step, update={"args": _cut(step.args)}) for step in plan.steps]
    return plan.model_copy(update={"steps": steps})


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value
