"""The state of one task: everything the planner has to remember between two events."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from raa_runtime.state.codec import Kind, State
from raa_schemas.artifact import Artifact, Source
from raa_schemas.errors import ErrorInfo
from raa_schemas.plan import Citations, Finding, Plan
from raa_schemas.recall import Recalled
from raa_schemas.reflection import CheckReport, Hypothesis, ReflectionDone
from raa_schemas.task import Origin, TaskCreated

Phase = Literal["new", "marked", "queued", "preparing", "planning", "verifying", "running", "reflecting", "ended"]
MAX_DECIDED_KEPT = 64
MAX_STALLS_KEPT = 64


class FailedStep(State):
    """The step that ended a run."""

    step: str
    tool: str
    error: ErrorInfo


class Attempt(State):
    """A plan that was executed and was not good enough, and what is known about why."""

    number: int
    plan: Plan
    failed_step: FailedStep | None = None
    check: CheckReport | None = None
    hypotheses: list[Hypothesis] = Field(default_factory=list)

    def failure(self) -> str:
        """Say in one sentence why it was not good enough."""
        if self.failed_step is not None:
            return f"step {self.failed_step.step!r}: {self.failed_step.error.message}"
        if self.check is not None:
            return f"the check {self.check.check!r} does not hold: {self.check.reason or _actual(self.check)}"
        return "the reflector asked for another plan"


def _actual(report: CheckReport) -> str:
    atom = report.failed_atom or {}
    return f"{atom.get('path') or 'its value'} is {atom.get('actual')}"


class RunEnd(State):
    """What the terminal step.done of the current plan said."""

    status: str
    result: Any = None
    result_ref: str | None = None
    artifacts: list[Artifact] = Field(default_factory=list)
    failed_step: FailedStep | None = None


class Rejection(State):
    """A plan that cannot be used and the findings about it; `plan` is None when the answer held no plan at all."""

    plan: Plan | None = None
    findings: list[Finding] = Field(default_factory=list)


class Approval(State):
    """An open question to a person. `voters` holds who gave which verdict."""

    plan_version: int
    step: str
    args_hash: str
    expires_at: datetime
    approvers: list[str] = Field(default_factory=list)
    quorum: int = 1
    voters: dict[str, list[str]] = Field(default_factory=dict)


class Stall(State):
    """A dead letter that holds the task up. One of the task itself died before anybody here knew the task."""

    dead_type: str
    topic: str
    message: str = ""
    until: datetime | None = None
    group: str = ""
    fingerprint: str = ""


class Task(State):
    """A task from its first mention to its tombstone."""

    phase: Phase = "new"
    outcome: str | None = None

    request: TaskCreated | None = None
    origin: Origin | None = None
    received_at: datetime | None = None
    admitted_at: datetime | None = None
    trace_id: str | None = None

    deadline: datetime | None = None
    clock_stopped_at: datetime | None = None
    tries_left: int = 0
    cost_microusd: int = 0
    planning_ms: int = 0
    running_ms: int = 0
    running_since: datetime | None = None

    cancelled_by: str | None = None
    cancel_reason: str = ""
    stalls: dict[str, Stall] = Field(default_factory=dict)
    solved: list[str] = Field(default_factory=list)
    approvals: dict[str, Approval] = Field(default_factory=dict)
    decided: list[str] = Field(default_factory=list)

    sources: list[Source] = Field(default_factory=list)
    manifest: list[Artifact] = Field(default_factory=list)
    lessons: list[Recalled] = Field(default_factory=list)
    lessons_learned: list[str] = Field(default_factory=list)
    memory_degraded: bool = False
    recall_digest: str | None = None
    recall_request: str | None = None
    recall_ref: str | None = None

    told: str | None = None
    begun: bool = False
    activity: str | None = None
    plan: Plan | None = None
    plan_version: int = 0
    executed: int = 0
    repairs: int = 0
    rejection: Rejection | None = None
    shown: list[str] = Field(default_factory=list)
    citations: Citations = Field(default_factory=Citations)
    steps_done: int = 0
    steps_total: int = 0
    run_end: RunEnd | None = None
    verdict: ReflectionDone | None = None
    earlier: list[Attempt] = Field(default_factory=list)
    rejected_hashes: list[str] = Field(default_factory=list)

    reflections: list[str] = Field(default_factory=list)

    @property
    def asked(self) -> TaskCreated:
        """Give the client's request; only a task that was admitted or rejected has one."""
        if self.request is None:
            raise LookupError(f"a task in phase {self.phase!r} has no request; the state was written by hand?")
        return self.request

    @property
    def attempt(self) -> int:
        """Number the attempt that the next or current plan is for, from 1."""
        return len(self.earlier) + 1

    @property
    def uses_memory(self) -> bool:
        """Say whether lessons may be recalled and used."""
        return self.asked.constraints.memory == "on"

    @property
    def parked(self) -> bool:
        """Say whether it waits for a person or a redrive, and so needs nobody's capacity."""
        return bool(self.approvals or self.stalls)

    @model_validator(mode="before")
    @classmethod
    def _one_became_several(cls, stored: Any) -> Any:
        """Read the one dead letter that earlier releases kept."""
        if isinstance(stored, dict) and "stall" in stored:
            stall = stored["stall"]
            rest = {name: value for name, value in stored.items() if name != "stall"}
            return rest | ({"stalls": {"": stall}} if stall else {})
        return stored


def tombstone(task: Task) -> Task:
    """Keep of an ended task what duplicates, late events and recalls still need."""
    return Task(phase=task.phase, outcome=task.outcome, cancelled_by=task.cancelled_by, reflections=task.reflections)


REFLECTED_AT: Final = "reflected_at"
"""The mark by which a recall finds the newest reflections the planner has handled."""

TASK: Final = Kind("task", Task, tombstone=tombstone, indexes=(REFLECTED_AT,))
