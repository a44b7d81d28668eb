"""What was decided in a task, apart from ids and times, and how two such records differ. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from raa_cli.replay.recording import Recording
from raa_schemas.action import ActionDecided, ActionProposed
from raa_schemas.approval import ApprovalRequested
from raa_schemas.errors import ErrorInfo
from raa_schemas.plan import Plan, PlanProposed, PlanReady, PlanRejected
from raa_schemas.reflection import Hypothesis, ReflectionDone
from raa_schemas.step import StepDone
from raa_schemas.task import TaskDone
from raa_schemas.usage import UsageRecorded

Json = Any
ABSENT: Final = "(nothing)"


@dataclass(frozen=True)
class Difference:
    """One place where two records of decisions differ; `path` is written with slashes."""

    path: str
    recorded: Json
    replayed: Json


def decisions(recording: Recording) -> dict[str, Json]:
    """Write down what was decided, and from which prompt, tools and policy."""
    done = recording.newest(TaskDone)
    runs = [event for event in recording.all(StepDone) if event.terminal]
    # whether a run that is cancelled is still judged is a race between the cancel and its last step
    stopped = {event.plan_version for event in runs if event.run_status == "cancelled"}
    judged = [event for event in recording.all(ReflectionDone) if event.plan_version not in stopped]
    return {
        "models": [_usage(usage) for usage in recording.all(UsageRecorded)],
        "plans": {f"v{event.plan.version}": _proposed(event) for event in recording.all(PlanProposed)},
        "safety": _safety(recording),
        "approvals": _approvals(recording),
        "steps": {f"v{event.plan_version}/{event.step}": _step(event) for event in recording.all(StepDone)},
        "runs": {f"v{event.plan_version}": _run(event) for event in runs},
        "reflection": {f"v{event.plan_version}": _reflection(event) for event in judged},
        "end": _end(done) if done else None,
    }


def _usage(usage: UsageRecorded) -> Json:
    told = ("model", "tier", "fallback", "prompt_tokens", "completion_tokens", "cost_microusd")
    return {name: getattr(usage, name) for name in told}


def _proposed(event: PlanProposed) -> Json:
    cited = event.citations
    return {
        "attempt": event.attempt,
        "origin": event.plan.origin,
        "lessons": event.plan.lessons,
        "lessons_shown": event.lessons_shown,
        "hypotheses": [_hypothesis(item) for item in event.hypotheses],
        "tries_left": event.limits.tries_left,
        "budget_microusd": event.limits.budget_microusd,
        **_content(event.plan),
        "prompt": cited.prompt,
        "prompt_version": cited.prompt_version,
        "tools": cited.tools,
    }


def _content(plan: Plan) -> dict[str, Json]:
    steps = {step.id: {"tool": step.tool, "args": step.args, "after": sorted(step.after)} for step in plan.steps}
    return {"steps": steps, "result": plan.result}


def _hypothesis(item: Hypothesis) -> Json:
    return item.model_dump(mode="json", exclude={"because"})


def _safety(recording: Recording) -> dict[str, Json]:
    ready = {f"v{event.plan.version}": _granted(event) for event in recording.all(PlanReady)}
    rejected = {
        f"v{event.plan_version}": {"rejected": [[item.code, item.step, item.field] for item in event.findings]}
        for event in recording.all(PlanRejected)
    }
    return ready | rejected


def _granted(event: PlanReady) -> Json:
    return {
        "granted": {step: grant.covers for step, grant in sorted(event.grants.items())},
        "policy": sorted({grant.policy_version for grant in event.grants.values()}),
    }


def _approvals(recording: Recording) -> Json:
    asked = [[f"v{one.plan_version}/{one.step}", one.tool, one.reason] for one in recording.all(ActionProposed)]
    people = [[f"v{one.plan_version}/{one.step}", one.question, one.quorum] for one in recording.all(ApprovalRequested)]
    decided = [[f"v{one.plan_version}/{one.step}", one.decision] for one in recording.all(ActionDecided)]
    return {"asked": sorted(asked), "people": sorted(people), "decided": sorted(decided)}


def _step(event: StepDone) -> Json:
    return {
        "tool": event.tool,
        "outcome": event.outcome,
        # how far a cancelled step was is a matter of time, not of a decision
        "attempt": event.attempt if event.outcome != "cancelled" else None,
        "effect": event.effect,
        "args_hash": event.args_hash,
        "output": event.output_digest,
        "error": _error(event.error),
    }


def _error(problem: ErrorInfo | None) -> Json:
    return None if problem is None else {"code": problem.code, "step": problem.step_id}


def _run(event: StepDone) -> Json:
    retries = event.retries_used if event.run_status != "cancelled" else None
    return {"status": event.run_status, "retries_used": retries, "result": event.result,
            "result_ref": event.result_ref}  # fmt: skip


def _reflection(event: ReflectionDone) -> Json:
    return {
        "verdict": event.verdict,
        "label": event.label.model_dump(mode="json"),
        "check": event.check.model_dump(mode="json") if event.check else None,
        "hypotheses": [_hypothesis(item) for item in event.hypotheses],
        "lessons": sorted(lesson.id for lesson in event.lessons),
    }


def _end(done: TaskDone) -> Json:
    return {
        "outcome": done.outcome,
        "error": _error(done.error),
        "result": done.result,
        "result_ref": done.result_ref,
        "checked": done.checked,
        "artifacts": sorted([item.name, item.sha256] for item in done.artifacts),
        "lessons_used": sorted(done.lessons_used),
        "lessons_learned": sorted(done.lessons_learned),
        "attempts": done.attempts,
        "cost_microusd": done.cost_microusd,
    }


def differences(recorded: Json, replayed: Json, path: str = "") -> list[Difference]:
    """List where two JSON values differ, as deep as they can be told apart by name."""
    return list(_differences(recorded, replayed, path))


def _differences(recorded: Json, replayed: Json, path: str) -> Iterator[Difference]:
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for name in dict.fromkeys([*recorded, *replayed]):
            inner = f"{path}/{name}" if path else str(name)
            yield from _differences(recorded.get(name, ABSENT), replayed.get(name, ABSENT), inner)
    elif isinstance(recorded, list) and isinstance(replayed, list) and len(recorded) == len(replayed):
        for place, pair in enumerate(zip(recorded, replayed, strict=True)):
            yield from _differences(*pair, f"{path}/{place}")
    elif _told_apart(recorded, replayed):
        yield Difference(path, recorded, replayed)


def _told_apart(one: Json, other: Json) -> bool:
    return one != other or isinstance(one, bool) != isinstance(other, bool)
