"""Steps of a run: released, started, finished, told to the world, cancelled."""

from typing import Any, Literal

from pydantic import Field

from raa_schemas.artifact import Artifact
from raa_schemas.errors import ErrorInfo
from raa_schemas.event import Event, Instant, MicroUsd, Part
from raa_schemas.ids import STEP_ID_PATTERN
from raa_schemas.plan import Grant, Limits, Step

Outcome = Literal["succeeded", "failed", "skipped", "cancelled", "outcome_unknown"]
RunStatus = Literal["running", "succeeded", "failed", "cancelled"]
Effect = Literal["read", "keyed", "checkable", "once"]
Risk = Literal["read", "workspace", "external"]


class Usage(Part):
    """What one step used."""

    duration_ms: int = Field(0, ge=0, description="milliseconds inside the tool")
    cost_microusd: MicroUsd = Field(0, description="cost in micro-USD")


class StepEvent(Event):
    """An event about one step of one plan version."""

    plan_version: int = Field(ge=1, description="which plan")
    step: str = Field(pattern=STEP_ID_PATTERN, description="step id within the plan")


class StepReady(StepEvent):
    """One step may run: any executor of the pool may take it."""

    definition: Step = Field(description="the step as planned")
    args: dict[str, Any] | None = Field(None, description="the bound arguments, up to 64 KB")
    args_ref: str | None = Field(None, description="`blob:sha256/<hex>` of larger bound arguments")
    args_hash: str = Field(description="digest of the bound arguments")
    grant: Grant | None = Field(None, description="safety's grant, if the plan carried one for this step")
    manifest: list[Artifact] = Field(default_factory=list, description="the workspace to materialise")
    limits: Limits = Field(description="what the run may use")
    retries: int = Field(0, ge=0, description="tries of the task's counter that the run grants this step")


class StepCancel(StepEvent):
    """Stop this step, or never start it."""

    reason: str = Field(description="why")


class StepStarted(StepEvent):
    """An executor wrote its intent and starts the tool."""

    tool: str = Field(description="tool name")
    attempt: int = Field(1, ge=1, description="starts of this step, from 1")
    epoch: int = Field(1, ge=1, description="lease epoch of the start")
    deadline: Instant = Field(description="when the tool is stopped")


class StepFinished(StepEvent):
    """The outcome of a step, back to its run."""

    tool: str = Field(description="tool name")
    attempt: int = Field(1, ge=0, description="starts of this step")
    epoch: int = Field(1, ge=0, description="lease epoch of the outcome")
    outcome: Outcome = Field(description="how it ended")
    effect: Effect = Field("once", description="effect class of the tool")
    args_hash: str | None = Field(None, description="digest of the bound arguments")
    output: Any = Field(None, description="the tool's output, up to 64 KB")
    output_ref: str | None = Field(None, description="`blob:sha256/<hex>` of a larger output")
    output_digest: str | None = Field(None, description="digest of the output")
    error: ErrorInfo | None = Field(None, description="why it did not succeed")
    changed: list[Artifact] = Field(default_factory=list, description="paths the step wrote")
    retries_used: int = Field(0, ge=0, description="granted tries that were spent")
    usage: Usage = Field(default_factory=Usage, description="what it used")


class StepRecord(Part):
    """One step of a finished run, as evidence."""

    definition: Step = Field(description="the step as planned")
    outcome: Outcome = Field(description="how it ended")
    attempt: int = Field(0, ge=0, description="starts of this step")
    effect: Effect | None = Field(None, description="effect class of the tool; null: it never started")
    args_hash: str | None = Field(None, description="digest of the bound arguments")
    output: Any = Field(None, description="the output, up to 4 KB")
    output_ref: str | None = Field(None, description="`blob:sha256/<hex>` of a larger output")
    output_digest: str | None = Field(None, description="digest of the output")
    error: ErrorInfo | None = Field(None, description="why it did not succeed")


class StepDone(StepEvent):
    """A step settled. The terminal one of a plan version carries the manifest of all steps and the result."""

    tool: str = Field(description="tool name")
    attempt: int = Field(1, ge=0, description="starts of this step")
    epoch: int = Field(1, ge=0, description="lease epoch of the outcome")
    run_seq: int = Field(ge=1, description="order in which the steps of this plan version settled, from 1")
    run_status: RunStatus = Field(description="`running`, or how the run ended if this is its last event")
    outcome: Outcome = Field(description="how the step ended")
    effect: Effect | None = Field(None, description="effect class of the tool; null: it never started")
    args_hash: str | None = Field(None, description="digest of the bound arguments")
    error: ErrorInfo | None = Field(None, description="why it did not succeed")
    output: Any = Field(None, description="the output, up to 64 KB")
    output_ref: str | None = Field(None, description="`blob:sha256/<hex>` of a larger output")
    output_digest: str | None = Field(None, description="digest of the output")
    usage: Usage = Field(default_factory=Usage, description="what it used")
    steps_done: int = Field(0, ge=0, description="steps of this plan version settled so far")
    steps_total: int = Field(0, ge=0, description="steps of this plan version")
    result: Any = Field(None, description="the plan's result, up to 64 KB; only in a terminal event of a succeeded run")
    result_ref: str | None = Field(None, description="`blob:sha256/<hex>` of a larger result")
    manifest: list[StepRecord] | None = Field(None, description="every step; only in the terminal event")
    artifacts: list[Artifact] = Field(default_factory=list, description="files written; only in the terminal event")
    retries_used: int = Field(0, ge=0, description="tries the run spent of the task's counter")

    @property
    def terminal(self) -> bool:
        """Say whether this is the last event of its plan version."""
        return self.run_status != "running"
