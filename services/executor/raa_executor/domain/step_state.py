"""What a step remembers between being released and being settled."""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from raa_runtime.state.aggregate import State
from raa_schemas.action import Reason
from raa_schemas.artifact import Artifact
from raa_schemas.plan import Grant, Limits, Step
from raa_schemas.step import Outcome, StepReady

Phase = Literal["new", "learning_keys", "asking", "running", "held", "retrying", "unknown", "settled"]


class StepRun(State):
    """One step of one plan version.

    learning_keys: its grant names a key that is not known here yet. asking: waits for safety's decision. held: nothing
    may start now, it tries again. retrying: failed for a passing reason. unknown: waits for a person to find out.
    `epoch`: the highest of its tool so far; it only rises, however often and wherever the tool is started.
    `suspect`: a call of a checkable tool was cut off by a crash, so the next one has to look first.
    """

    phase: Phase = "new"
    outcome: Outcome | None = None
    plan_version: int = 0
    definition: Step | None = None
    args: dict[str, Any] | None = None
    args_ref: str | None = None
    args_hash: str = ""
    grant: Grant | None = None
    manifest: list[Artifact] = Field(default_factory=list)
    limits: Limits | None = None
    retries: int = 0
    retries_used: int = 0
    attempt: int = 0
    epoch: int = 0
    asked: int = 0
    asked_for: Reason | None = None
    waiting_since: datetime | None = None
    waited: timedelta = timedelta(0)
    pauses: int = 0
    suspect: bool = False
    cancelled: str | None = None

    def begin(self, event: StepReady) -> None:
        """Take what the run released."""
        self.plan_version, self.definition, self.limits = event.plan_version, event.definition, event.limits
        self.args, self.args_ref, self.args_hash = event.args, event.args_ref, event.args_hash
        self.grant, self.manifest, self.retries = event.grant, list(event.manifest), event.retries

    def wait(self, now: datetime) -> None:
        """Begin to wait for a decision: meanwhile the deadline stands still."""
        self.waiting_since = now

    def resume(self, now: datetime) -> None:
        """End the wait."""
        if self.waiting_since is not None:
            self.waited += max(now - self.waiting_since, timedelta(0))
            self.waiting_since = None

    def remaining(self, now: datetime) -> timedelta:
        """Count what is left until the task's deadline."""
        return self.limits.deadline + self.waited - now if self.limits else timedelta(0)
