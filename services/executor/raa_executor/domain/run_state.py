"""What a run remembers: the plan, how far each step is, and in which order steps settled."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from raa_executor.domain.graph import needs_of, workspace
from raa_runtime.state.aggregate import State
from raa_schemas.artifact import Artifact
from raa_schemas.errors import ErrorInfo
from raa_schemas.plan import Grant, Limits, PlanReady, Step
from raa_schemas.step import Effect, Outcome, RunStatus, Usage

MOST_RETRIES = 2


class Progress(BaseModel):
    """How far one step is. Only a settled one has an outcome; only one that succeeded has output and files."""

    model_config = ConfigDict(extra="allow")

    phase: Literal["waiting", "binding", "running", "settled"] = "waiting"
    needs: list[str] = Field(default_factory=list)
    retries: int = 0
    outcome: Outcome | None = None
    attempt: int = 0
    epoch: int = 0
    effect: Effect | None = None
    args_hash: str | None = None
    output: Any = None
    output_ref: str | None = None
    output_digest: str | None = None
    error: ErrorInfo | None = None
    changed: list[Artifact] = Field(default_factory=list)
    usage: Usage = Field(default_factory=Usage)


class Run(State):
    """The run of the newest plan version of a task. Version 0: there was no plan yet."""

    version: int = 0
    status: RunStatus = "running"
    cancelled: str | None = None
    limits: Limits | None = None
    steps: dict[str, Step] = Field(default_factory=dict)
    result: Any = None
    grants: dict[str, Grant] = Field(default_factory=dict)
    inputs: list[Artifact] = Field(default_factory=list)
    progress: dict[str, Progress] = Field(default_factory=dict)
    settled: list[str] = Field(default_factory=list)
    announced: int = 0
    retries_used: int = 0

    def begin(self, event: PlanReady) -> None:
        """Forget any older plan and begin with this one."""
        plan = event.plan
        self.version, self.status, self.limits, self.result = plan.version, "running", event.limits, plan.result
        self.steps = {step.id: step for step in plan.steps}
        self.grants, self.inputs = dict(event.grants), list(event.manifest)
        self.progress = {step.id: Progress(needs=needs_of(step)) for step in plan.steps}
        self.settled, self.announced, self.retries_used = [], 0, 0

    def forget(self) -> None:
        """Drop what only a run under way needs; version, status and limits stay."""
        self.steps, self.progress, self.grants = {}, {}, {}
        self.inputs, self.settled, self.result, self.announced = [], [], None, 0

    def settle(self, step: str, outcome: Outcome, error: ErrorInfo | None = None) -> None:
        """Write down how a step ended; its `step.done` is still to be told."""
        progress = self.progress[step]
        progress.phase, progress.outcome, progress.error = "settled", outcome, error
        self.settled.append(step)

    def in_phase(self, *phases: str) -> list[str]:
        """Name the steps that are in one of these phases, in the plan's order."""
        return [step for step, progress in self.progress.items() if progress.phase in phases]

    @property
    def ending(self) -> bool:
        """Say whether nothing new may start: somebody cancelled, or a step did not succeed."""
        failed = any(self.progress[step].outcome != "succeeded" for step in self.settled)
        return failed or self.cancelled is not None

    @property
    def complete(self) -> bool:
        """Say whether every step has settled."""
        return len(self.settled) == len(self.progress)

    def runnable(self, parallel: int) -> str | None:
        """Name the next step that may start: all it needs has succeeded, and fewer than `parallel` are under way."""
        if len(self.in_phase("binding", "running")) >= parallel:
            return None
        done = set(self.settled)
        return next((step for step in self.in_phase("waiting") if done.issuperset(self.progress[step].needs)), None)

    @property
    def stuck(self) -> bool:
        """Say whether steps wait although nothing is under way that could release them."""
        return bool(self.in_phase("waiting")) and not self.in_phase("binding", "running")

    def retries_to_grant(self) -> int:
        """Count the tries the next step may spend: at most 2, and never more than the task's counter still has."""
        promised = sum(self.progress[step].retries for step in self.in_phase("running"))
        left = (self.limits.tries_left if self.limits else 0) - self.retries_used - promised
        return max(0, min(MOST_RETRIES, left))

    def written(self) -> dict[str, list[Artifact]]:
        """Give the files each settled step wrote, in the order in which they settled."""
        return {step: self.progress[step].changed for step in self.settled}

    def manifest(self) -> list[Artifact]:
        """Give the workspace as it is now."""
        return workspace(self.inputs, self.written().values())

    def artifacts(self) -> list[Artifact]:
        """Give the files that steps wrote, as they are now."""
        return workspace([], self.written().values())
