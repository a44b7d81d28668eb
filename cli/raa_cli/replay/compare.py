"""Compares each task with its replay: what was decided differently, and what that means for success, cost and time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raa_cli.replay.change import Diverged
from raa_cli.replay.decisions import Difference, decisions, differences
from raa_cli.replay.playing import Played
from raa_cli.replay.recording import Recording
from raa_schemas.plan import PlanReady, dependencies
from raa_schemas.step import StepDone
from raa_schemas.task import TaskDone
from raa_schemas.usage import UsageRecorded


@dataclass(frozen=True)
class Measure:
    """What a task came to. The time is that of models and, along the longest chain of steps, of tools."""

    succeeded: bool
    outcome: str
    result: Any
    cost_microusd: int
    latency_ms: int


@dataclass(frozen=True)
class Compared:
    """One task: what is recorded and what was replayed, or why that could not be."""

    task_id: str
    goal: str = ""
    skipped: str | None = None
    diverged: Diverged | None = None
    differences: list[Difference] = field(default_factory=list)
    recorded: Measure | None = None
    replayed: Measure | None = None
    live_calls: int = 0

    @property
    def covered(self) -> bool:
        """Say whether it was replayed to its end."""
        return self.skipped is None and self.diverged is None

    @property
    def same_result(self) -> bool:
        """Say whether outcome and result are the recorded ones."""
        return not any(one.path in {"end/outcome", "end/result", "end/result_ref"} for one in self.differences)


def compare(recording: Recording, goal: str, played: Played) -> Compared:
    """Compare a recording with what became of it; a task that diverged is compared no further than that."""
    before = measure(recording, {})
    if played.diverged is not None or played.replayed is None:
        why = played.diverged or Diverged("its start", "nothing of it was seen in the sandbox")
        return Compared(recording.task_id, goal, diverged=why, recorded=before, live_calls=played.live)
    found = differences(decisions(recording), decisions(played.replayed))
    after = measure(played.replayed, played.durations)
    return Compared(recording.task_id, goal, differences=found, recorded=before, replayed=after,
                    live_calls=played.live)  # fmt: skip


def measure(recording: Recording, served: Mapping[str, int]) -> Measure:
    """Measure a task by its events; `served` gives the recorded milliseconds of steps that were not run again."""
    done = recording.newest(TaskDone)
    if done is None:
        raise ValueError(f"{recording.task_id} has no end to measure")
    model_ms = sum(usage.latency_ms for usage in recording.all(UsageRecorded))
    result = done.result if done.result_ref is None else done.result_ref
    return Measure(done.outcome == "succeeded", done.outcome, result, done.cost_microusd,
                   model_ms + _tools_ms(recording, served))  # fmt: skip


def _tools_ms(recording: Recording, served: Mapping[str, int]) -> int:
    took = {
        (event.plan_version, event.step): served.get(f"v{event.plan_version}/{event.step}", event.usage.duration_ms)
        for event in recording.all(StepDone)
    }
    return sum(_longest_chain(ready, took) for ready in recording.all(PlanReady))


def _longest_chain(ready: PlanReady, took: Mapping[tuple[int, str], int]) -> int:
    steps = {step.id: step for step in ready.plan.steps}
    ends: dict[str, int] = {}

    def end(step: str) -> int:
        if step not in ends:
            needs = dependencies(steps[step]) & steps.keys()
            ends[step] = max((end(need) for need in needs), default=0) + took.get((ready.plan.version, step), 0)
        return ends[step]

    return max(end(step) for step in steps)
