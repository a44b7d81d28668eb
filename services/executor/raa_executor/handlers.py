"""One function per consumed event, ended activity and timer: call the domain, turn its moves into the unit of work.

All are idempotent by the phase of their aggregate: what was decided once is ignored the second time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from raa_executor.domain import run as runs
from raa_executor.domain import step as steps
from raa_executor.domain.moves import Close, Move, Publish, Scene, Start, Stop, Wake
from raa_executor.domain.run_state import Run
from raa_executor.domain.settle import NotStarted, ToolEnd, Unknown
from raa_executor.domain.step_state import StepRun
from raa_executor.domain.terms import Terms
from raa_executor.ports import KeyRing
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Completed, Received, Unit
from raa_schemas.action import ActionDecided
from raa_schemas.artifact import Artifact
from raa_schemas.cancel import CancelRequested
from raa_schemas.errors import error
from raa_schemas.plan import PlanReady
from raa_schemas.step import StepCancel, StepFinished, StepReady
from raa_schemas.tool import ToolSpec

RUN: Final = Kind("run", Run, lambda run: Run(version=run.version, status=run.status, cancelled=run.cancelled))
STEP: Final = Kind("step", StepRun, lambda step: StepRun(phase=step.phase, outcome=step.outcome))

# the runtime ended the call without knowing how far it was
_CUT_OFF: Final = frozenset({"tool_timeout", "internal"})


@dataclass(frozen=True, slots=True)
class RunHandlers:
    """What happens to a run; at most `parallel` of its steps are under way at once."""

    parallel: int

    def on_plan_ready(self, unit: Unit[Run], event: Received[PlanReady]) -> None:
        """Begin the run of a plan version and release its first steps."""
        if not _ended(unit):
            _decide(unit, runs.take_up(unit.state, event.data, self._terms(unit)))

    def on_step_finished(self, unit: Unit[Run], event: Received[StepFinished]) -> None:
        """Fold a step's outcome, tell it as `step.done`, release what became ready."""
        if not _ended(unit):
            _decide(unit, runs.finished(unit.state, event.data, self._terms(unit)))

    def on_bound(self, unit: Unit[Run], done: Completed) -> None:
        """Release the step whose arguments are bound now, or end the run with its result."""
        answer = done.result if done.outcome == "done" else None
        _apply(unit, runs.bound(unit.state, done.args, answer, done.error, self._terms(unit)))

    def on_cancel_requested(self, unit: Unit[Run], event: Received[CancelRequested]) -> None:
        """Stop what runs, settle the rest; before any plan it leaves the mark that keeps one from starting."""
        if not _ended(unit):
            _decide(unit, runs.cancel(unit.state, event.data.reason, self._terms(unit)))

    def on_deadline(self, unit: Unit[Run], _timer: str) -> None:
        """Close a run that has ended: until then a newer plan version of the task could still come."""
        _apply(unit, runs.past_deadline(unit.state, self._terms(unit)))

    def _terms(self, unit: Unit[Run]) -> Terms:
        return Terms(unit.task_id, unit.now, self.parallel)


@dataclass(frozen=True, slots=True)
class StepHandlers:
    """What happens to a step, knowing the tools of this executor and safety's keys."""

    tools: Mapping[str, ToolSpec]
    keys: KeyRing

    def on_step_ready(self, unit: Unit[StepRun], event: Received[StepReady]) -> None:
        """Start the tool under its grant, or ask safety."""
        if not _ended(unit):
            _decide(unit, steps.ready(unit.state, event.data, self._scene(unit)))

    def on_step_cancel(self, unit: Unit[StepRun], event: Received[StepCancel]) -> None:
        """Stop the tool, or never start it."""
        if not _ended(unit):
            _decide(unit, steps.cancel(unit.state, event.data, self._scene(unit)))

    def on_action_decided(self, unit: Unit[StepRun], event: Received[ActionDecided]) -> None:
        """Follow safety's answer to what this step asked."""
        if not _ended(unit):
            _decide(unit, steps.decided(unit.state, event.data, self._scene(unit)))

    def on_keys_learned(self, unit: Unit[StepRun], _done: Completed) -> None:
        """Judge the grant again; a safety that did not answer is asked through the bus."""
        _apply(unit, steps.keys_learned(unit.state, self._scene(unit)))

    def on_tool_ended(self, unit: Unit[StepRun], done: Completed) -> None:
        """Settle the step, hold it, try it again, or ask a person what became of it."""
        unit.state.epoch = max(unit.state.epoch, done.epoch)
        _apply(unit, steps.tool_ended(unit.state, _end_of(unit.state, done, self.tools), self._scene(unit)))

    def on_step_timer(self, unit: Unit[StepRun], timer: str) -> None:
        """Try a held step again, or end a question nobody answered."""
        _apply(unit, steps.wake(unit.state, timer, self._scene(unit)))

    def _scene(self, unit: Unit[StepRun]) -> Scene:
        return Scene(unit.deployment, unit.tenant, unit.task_id, unit.now, self.tools, self.keys)


def _end_of(step: StepRun, done: Completed, tools: Mapping[str, ToolSpec]) -> ToolEnd | NotStarted | Unknown:
    if done.outcome == "unknown":
        return Unknown()
    if done.outcome == "cancelled":
        return ToolEnd("cancelled", error("cancelled", step.cancelled), epoch=done.epoch, duration_ms=done.duration_ms)
    if done.outcome == "failed":
        problem = done.error or error("internal", "the tool failed without saying why")
        spec = tools.get(done.args["tool"])
        if problem.code in _CUT_OFF and (spec is None or spec.effect in steps.UNREPEATABLE):
            return Unknown()
        return ToolEnd("failed", problem, epoch=done.epoch, duration_ms=done.duration_ms)
    return _answer(done.result, done.epoch)


def _answer(result: dict[str, Any], epoch: int) -> ToolEnd | NotStarted | Unknown:
    if result["status"] == "not_started":
        return NotStarted(result["why"], result.get("suspect", False))
    if result["status"] == "unknown":
        return Unknown()
    return ToolEnd(
        "succeeded",
        output=result["output"],
        output_ref=result["output_ref"],
        output_digest=result["output_digest"],
        changed=[Artifact.model_validate(artifact) for artifact in result["changed"]],
        duration_ms=result["duration_ms"],
        epoch=epoch,
    )


def _ended(unit: Unit[Any]) -> bool:
    if unit.closed:
        unit.ignore("it has ended")
    return unit.closed


def _decide(unit: Unit[Any], moves: list[Move] | None) -> None:
    """Apply the decision on an event; only events may be ignored, what an activity or a timer ends is stored."""
    if moves is None:
        unit.ignore("it was decided before, or is about something else")
    else:
        _apply(unit, moves)


def _apply(unit: Unit[Any], moves: list[Move] | None) -> None:
    for move in moves or ():
        match move:
            case Publish(event):
                unit.publish(event)
            case Start(name, kind, args, timeout, effect, key, epoch):
                unit.start(kind, args, effect=effect, timeout=timeout, key=key, id=name, epoch=epoch)
            case Stop(name):
                unit.stop(name)
            case Wake(timer, at):
                _arm(unit, timer, at)
            case Close():
                unit.close()


def _arm(unit: Unit[Any], timer: str, at: datetime | None) -> None:
    if at is None:
        unit.clear_timer(timer)
    else:
        unit.set_timer(timer, at)
