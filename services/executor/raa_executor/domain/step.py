"""Decides what happens with one released step: under which grant it starts, and what each outcome means.

Nothing starts without a valid grant, and nothing that may have happened is ever started again without a person.
None as an answer means: decided, there is nothing to do.

    phase / event   ready   allowed  denied/expired  happened   not_happened  give_up   cancel      outcome of the tool
    new             start*  -        -               -          -             -         cancelled   -
    learning_keys   -       -        -               -          -             -         cancelled   - (keys: start*)
    asking          -       start*   failed          -          -             -         cancelled   -
    running         -       -        -               -          -             -         stop        see `tool_ended`
    held, retrying  -       -        -               -          -             -         cancelled   - (timer: start*)
    unknown         -       -        unknown         succeeded  start*        unknown   unknown     -
    settled         -       -        -               -          -             -         -           -
    start*: with a valid grant the tool starts; without one safety is asked; a forged one fails the step
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from raa_executor.domain.grants import Claim, Verdict, judge
from raa_executor.domain.moves import Move, Publish, Scene, Start, Stop, Wake
from raa_executor.domain.settle import NotStarted, ToolEnd, Unknown, settle
from raa_executor.domain.step_state import StepRun
from raa_schemas.action import ActionDecided, ActionProposed, Reason
from raa_schemas.canonical import digest
from raa_schemas.errors import error
from raa_schemas.ids import owned
from raa_schemas.step import StepCancel, StepReady, StepStarted
from raa_schemas.tool import ToolSpec

TOOL: Final = "tool"
KEYS: Final = "keys"
AGAIN: Final = "again"
PATIENCE: Final = "patience"
UNREPEATABLE: Final = frozenset({"once", "checkable"})

# a call needs time for its files and answers besides the tool's own
PREPARATION: Final = timedelta(seconds=60)
_KEYS_TIMEOUT: Final = timedelta(minutes=2)
_LONGEST_PAUSE: Final = timedelta(seconds=30)
# safety's own expiry comes first; this only ends a step whose question was lost
_PATIENCE: Final = timedelta(days=8)
_MOST_QUESTIONS: Final = 5
_ASK_FOR: Final[dict[Verdict, Reason]] = {
    "absent": "no_grant",
    "unknown_key": "no_grant",
    "expired": "grant_expired",
    "external": "external",
}


def ready(step: StepRun, event: StepReady, scene: Scene) -> list[Move] | None:
    """Take up a released step; one that was taken up, or cancelled before it came, is a duplicate."""
    if step.phase != "new":
        return None
    step.begin(event)
    if event.definition.tool not in scene.tools:
        names = sorted(scene.tools)
        problem = error("unknown_tool", f"this executor has no tool {event.definition.tool!r}", tools=names)
        return settle(step, scene, ToolEnd("failed", problem))
    return _authorize(step, scene, ask_for_keys=True)


def keys_learned(step: StepRun, scene: Scene) -> list[Move] | None:
    """Judge the grant again with the keys that safety publishes now."""
    return _authorize(step, scene, ask_for_keys=False) if step.phase == "learning_keys" else None


def decided(step: StepRun, event: ActionDecided, scene: Scene) -> list[Move] | None:
    """Follow the answer to what this step asked; an answer about other arguments is none."""
    if event.args_hash != step.args_hash or step.phase not in {"asking", "unknown"}:
        return None
    decision = event.decision
    if step.phase == "asking":
        if decision == "allowed":
            step.resume(scene.now)
            step.grant = event.grant
            return [Wake(PATIENCE, None), *_authorize(step, scene, ask_for_keys=True)]
        return _refused(step, event, scene) if decision in {"denied", "expired"} else None
    if decision == "happened":
        return settle(step, scene, ToolEnd("succeeded"))
    if decision == "not_happened":
        step.resume(scene.now)
        return [Wake(PATIENCE, None), *_authorize(step, scene, ask_for_keys=True)]
    return None if decision == "allowed" else _nobody_knows(step, scene, event.reason)


def tool_ended(step: StepRun, end: ToolEnd | NotStarted | Unknown, scene: Scene) -> list[Move] | None:
    """Follow the outcome of the tool: settle, try again later, or ask a person what became of it."""
    if step.phase != "running":
        return None
    if isinstance(end, NotStarted):
        step.suspect = step.suspect or end.suspect
        return _hold(step, scene)
    if isinstance(end, Unknown):
        return _ask_what_became_of_it(step, scene)
    if end.outcome == "failed" and _may_retry(step, end, scene):
        step.retries_used += 1
        step.phase = "retrying"
        return [Wake(AGAIN, scene.now + timedelta(seconds=2 ** (step.retries_used - 1)))]
    return settle(step, scene, end)


def cancel(step: StepRun, event: StepCancel, scene: Scene) -> list[Move] | None:
    """Stop the step, or leave the mark that keeps a later release from starting it.

    A tool that nobody may simply run again is not interrupted, so that its outcome is known.
    """
    if step.phase == "settled":
        return None
    step.plan_version = event.plan_version
    step.cancelled = event.reason or "cancelled"
    if step.phase == "running":
        return [] if _spec(step, scene).effect in UNREPEATABLE else [Stop(TOOL)]
    if step.phase == "unknown" or step.suspect:
        return _nobody_knows(step, scene, f"the task was cancelled: {step.cancelled}")
    return settle(step, scene, _cancelled(step), name=event.step)


def wake(step: StepRun, timer: str, scene: Scene) -> list[Move] | None:
    """Try again what was held, or end a question nobody answered."""
    if timer == AGAIN and step.phase in {"held", "retrying"}:
        return _authorize(step, scene, ask_for_keys=True)
    if timer == PATIENCE and step.phase == "asking":
        return settle(step, scene, ToolEnd("failed", error("approval_expired")))
    if timer == PATIENCE and step.phase == "unknown":
        return _nobody_knows(step, scene, "nobody said what became of it")
    return None


def _authorize(step: StepRun, scene: Scene, *, ask_for_keys: bool) -> list[Move]:
    if step.definition is None:
        raise ValueError("a step starts after it was released")
    spec = _spec(step, scene)
    claim = Claim(step.plan_version, step.definition, step.args, step.args_hash, spec.risk)
    verdict = judge(step.grant, claim, scene)
    if verdict == "valid":
        return _start(step, spec, scene)
    if verdict == "unknown_key" and ask_for_keys:
        step.phase = "learning_keys"
        return [Start(KEYS, KEYS, {}, _KEYS_TIMEOUT)]
    if verdict == "forged":
        problem = error("grant_denied", "the grant is not safety's, or not for this step and these arguments")
        return settle(step, scene, ToolEnd("failed", problem))
    return _ask_for_permission(step, spec, _ASK_FOR[verdict], scene)


def _start(step: StepRun, spec: ToolSpec, scene: Scene) -> list[Move]:
    remaining = step.remaining(scene.now)
    if remaining <= timedelta(0):
        if step.suspect:
            return _nobody_knows(step, scene, "the task's deadline came before it could be looked up")
        return settle(step, scene, ToolEnd("failed", error("deadline_exceeded")))
    timeout = min(timedelta(seconds=spec.timeout_seconds) + PREPARATION, remaining)
    first_of_attempt = step.phase != "held"
    step.phase = "running"
    step.epoch += 1
    moves: list[Move] = [Start(TOOL, TOOL, _intent(step), timeout, spec.effect, _key(step, scene), step.epoch)]
    if first_of_attempt:
        step.attempt += 1
        moves.append(
            Publish(
                StepStarted(
                    task_id=scene.task_id,
                    plan_version=step.plan_version,
                    step=_name(step),
                    tool=spec.name,
                    attempt=step.attempt,
                    epoch=step.epoch,
                    deadline=scene.now + timeout,
                )
            )
        )
    return moves


def _intent(step: StepRun) -> dict[str, Any]:
    """Say what the tool activity has to do; bound arguments that lie in a blob are checked there."""
    definition = step.definition.model_dump(mode="json") if step.definition else {}
    args: Mapping[str, Any] = (
        {"args": step.args} if step.args_ref is None else {"args_ref": step.args_ref, "template": definition["args"]}
    )
    return {
        "step": _name(step),
        "tool": definition["tool"],
        "args_hash": step.args_hash,
        "manifest": [artifact.model_dump(mode="json") for artifact in step.manifest],
        "max_steps": step.limits.max_steps if step.limits else 1,
        "suspect": step.suspect,
        **args,
    }


def _key(step: StepRun, scene: Scene) -> str:
    """Name the action: equal however often the same step is started with the same arguments."""
    action = [scene.tenant, scene.task_id, step.plan_version, _name(step), step.args_hash]
    return owned(scene.deployment, digest(action).removeprefix("sha256:")[:40])


def _ask_for_permission(step: StepRun, spec: ToolSpec, reason: Reason, scene: Scene) -> list[Move]:
    if step.asked >= _MOST_QUESTIONS:
        problem = error("grant_denied", f"safety's grants were not usable {step.asked} times in a row: {reason}")
        return settle(step, scene, ToolEnd("failed", problem))
    step.phase = "asking"
    return _propose(step, spec, reason, scene)


def _ask_what_became_of_it(step: StepRun, scene: Scene) -> list[Move]:
    if step.cancelled is not None:
        return _nobody_knows(step, scene, f"the task was cancelled: {step.cancelled}")
    step.phase = "unknown"
    return _propose(step, _spec(step, scene), "outcome_unknown", scene)


def _propose(step: StepRun, spec: ToolSpec, reason: Reason, scene: Scene) -> list[Move]:
    step.asked += 1
    step.asked_for = reason
    step.wait(scene.now)
    proposed = ActionProposed(
        task_id=scene.task_id,
        plan_version=step.plan_version,
        step=_name(step),
        tool=spec.name,
        args=step.args,
        args_ref=step.args_ref,
        args_hash=step.args_hash,
        effect=spec.effect,
        risk=spec.risk,
        reason=reason,
    )
    return [Publish(proposed), Wake(PATIENCE, scene.now + _PATIENCE)]


def _refused(step: StepRun, event: ActionDecided, scene: Scene) -> list[Move]:
    if event.decision == "expired":
        return settle(step, scene, ToolEnd("failed", error("approval_expired", event.reason or None)))
    by = event.by or ("person" if step.asked_for == "external" else "policy")  # older releases do not say who
    code = "approval_denied" if by == "person" else "grant_denied"
    if code == "grant_denied" and step.remaining(scene.now) <= timedelta(0):
        code = "deadline_exceeded"  # safety says no to whatever is late; the policy has nothing against it
    return settle(step, scene, ToolEnd("failed", error(code, event.reason or None)))


def _nobody_knows(step: StepRun, scene: Scene, why: str) -> list[Move]:
    message = f"nobody knows whether the action of step {_name(step)} happened" + (f" ({why})" if why else "")
    return settle(step, scene, ToolEnd("outcome_unknown", error("outcome_unknown", message)))


def _hold(step: StepRun, scene: Scene) -> list[Move]:
    if step.cancelled is not None:
        why = f"the task was cancelled: {step.cancelled}"
        return _nobody_knows(step, scene, why) if step.suspect else settle(step, scene, _cancelled(step))
    pause = min(timedelta(seconds=2 ** min(step.pauses, 10)), _LONGEST_PAUSE)
    step.phase = "held"
    step.pauses += 1
    return [Wake(AGAIN, min(scene.now + pause, scene.now + max(step.remaining(scene.now), timedelta(seconds=1))))]


def _may_retry(step: StepRun, end: ToolEnd, scene: Scene) -> bool:
    passing = end.problem is not None and end.problem.retryable
    repeatable = _spec(step, scene).effect not in UNREPEATABLE
    left = step.retries_used < step.retries and step.remaining(scene.now) > timedelta(0)
    return passing and repeatable and left and step.cancelled is None


def _cancelled(step: StepRun) -> ToolEnd:
    return ToolEnd("cancelled", error("cancelled", step.cancelled))


def _name(step: StepRun) -> str:
    return step.definition.id if step.definition else ""


def _spec(step: StepRun, scene: Scene) -> ToolSpec:
    """Give the tool's declaration; a tool that vanished with a restart is taken as undeclared."""
    name = step.definition.tool if step.definition else ""
    return scene.tools.get(name) or ToolSpec(name=name or "undeclared", arguments={})
