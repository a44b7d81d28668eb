"""Ends a step: the one place where `step.finished` is made."""

from dataclasses import dataclass, field
from typing import Any

from raa_executor.domain.moves import Close, Move, Publish, Scene
from raa_executor.domain.step_state import StepRun
from raa_schemas.artifact import Artifact
from raa_schemas.errors import ErrorInfo
from raa_schemas.step import Outcome, StepFinished, Usage


@dataclass(frozen=True, slots=True)
class ToolEnd:
    """How a tool, or the question whether it may run, ended."""

    outcome: Outcome
    problem: ErrorInfo | None = None
    output: Any = None
    output_ref: str | None = None
    output_digest: str | None = None
    changed: list[Artifact] = field(default_factory=list)
    duration_ms: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The intent was closed before the call: nothing happened, unless an earlier call of it is `suspect`."""

    why: str
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The call may have happened."""


def settle(step: StepRun, scene: Scene, end: ToolEnd, name: str | None = None) -> list[Move]:
    """Tell the run how the step ended, and close; `name` is for a step that is cancelled before it was released."""
    step.phase, step.outcome = "settled", end.outcome
    definition = step.definition
    spec = scene.tools.get(definition.tool) if definition else None
    told = StepFinished(
        task_id=scene.task_id,
        plan_version=step.plan_version,
        step=definition.id if definition else name or "",
        tool=definition.tool if definition else "",
        attempt=step.attempt,
        epoch=end.epoch or step.epoch,
        outcome=end.outcome,
        effect=spec.effect if spec else "once",
        args_hash=step.args_hash or None,
        output=end.output,
        output_ref=end.output_ref,
        output_digest=end.output_digest,
        error=end.problem,
        changed=end.changed,
        retries_used=step.retries_used,
        usage=Usage(duration_ms=end.duration_ms),
    )
    return [Publish(told), Close()]
