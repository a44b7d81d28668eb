"""Decides what happens in the run of a plan: which steps start, how each settles, and how the run ends.

Each step of a plan version settles in exactly one `step.done`; the last one is terminal. After a failure or a cancel
nothing new starts, running steps end first. It knows nothing of tools: a step is a question whose answer comes later.
None as an answer means: decided, there is nothing to do.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from raa_executor.domain.announce import DEADLINE, announce, conclude
from raa_executor.domain.binding import activity_name, bind_or_fetch
from raa_executor.domain.graph import conflict
from raa_executor.domain.moves import Close, Move, Publish, Start, Stop, Wake
from raa_executor.domain.run_state import Run
from raa_executor.domain.sizes import bounded
from raa_executor.domain.terms import Terms
from raa_schemas.canonical import digest
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.plan import PlanReady, UnboundReferenceError
from raa_schemas.step import StepCancel, StepFinished, StepReady

_LOOK_AGAIN: Final = timedelta(hours=1)
_LOST: Final = timedelta(days=7)


def take_up(run: Run, event: PlanReady, terms: Terms) -> list[Move] | None:
    """Begin a plan version; one that is not newer is a duplicate, a newer one replaces what is under way."""
    if event.plan.version <= run.version:
        return None
    moves = _drop_running(run, f"replaced by plan version {event.plan.version}", terms)
    run.begin(event)
    moves.append(Wake(DEADLINE, event.limits.deadline))
    return moves + _advance(run, {}, terms)


def finished(run: Run, event: StepFinished, terms: Terms) -> list[Move] | None:
    """Fold the outcome of a step; only the first one of a running step of this plan version counts."""
    progress = run.progress.get(event.step)
    if event.plan_version != run.version or progress is None or progress.phase != "running":
        return None
    run.retries_used += event.retries_used
    progress.attempt, progress.epoch, progress.effect = event.attempt, event.epoch, event.effect
    progress.args_hash, progress.usage = event.args_hash or progress.args_hash, event.usage
    problem = _problem(run, event)
    if problem is not None or event.outcome != "succeeded":
        run.settle(event.step, "failed" if event.outcome == "succeeded" else event.outcome, problem)
        return _advance(run, {}, terms)
    progress.output = event.output if event.output_ref is None else None
    progress.output_ref, progress.output_digest = event.output_ref, event.output_digest
    progress.changed = list(event.changed)
    run.settle(event.step, "succeeded")
    came_along = event.output_ref is None or event.output is not None
    return _advance(run, {event.step: event.output} if came_along else {}, terms)


def bound(
    run: Run, args: Mapping[str, Any], answer: Mapping[str, Any] | None, problem: ErrorInfo | None, terms: Terms
) -> list[Move] | None:
    """Go on with what the binding activity found: `answer` is `{value | ref, hash}`, or `problem` says why not."""
    step: str | None = args["step"]
    if args["plan_version"] != run.version or run.status != "running":
        return None
    if step is None:
        return _result_bound(run, answer, problem, terms) if run.complete and not run.ending else None
    if run.progress[step].phase != "binding":
        return None
    if answer is None:
        run.settle(step, "failed", _of_step(step, run, problem or error("internal", "the arguments were not bound")))
        return _advance(run, {}, terms)
    return [_ready(run, step, answer.get("value"), answer.get("ref"), answer["hash"], terms)]


def cancel(run: Run, reason: str, terms: Terms) -> list[Move] | None:
    """End the run: running steps are told to stop, the others settle at once. Before any plan it leaves a mark."""
    if run.cancelled is not None:
        return None
    run.cancelled = reason or "cancelled"
    if run.version == 0 or run.status != "running":
        return [Close()]
    stops: list[Move] = [_step_cancel(run, step, run.cancelled, terms) for step in run.in_phase("running")]
    if run.complete:  # only the result was still to be bound
        stops.append(Stop(activity_name(run.version, None)))
    return stops + _advance(run, {}, terms)


def past_deadline(run: Run, terms: Terms) -> list[Move]:
    """Close a run that ended; one that has not may wait for a person, and is looked at again for up to 7 days."""
    lost = run.limits is None or terms.now > run.limits.deadline + _LOST
    return [Close()] if run.status != "running" or lost else [Wake(DEADLINE, terms.now + _LOOK_AGAIN)]


def _advance(run: Run, fresh: Mapping[str, Any], terms: Terms) -> list[Move]:
    moves: list[Move] = []
    while not run.ending:
        if (step := run.runnable(terms.parallel)) is not None:
            moves += _release(run, step, fresh, terms)
        elif run.stuck:
            _give_up_waiting(run)
        else:
            break
    if run.ending:
        moves += _settle_unstarted(run)
    return moves + announce(run, fresh, terms)


def _release(run: Run, step: str, fresh: Mapping[str, Any], terms: Terms) -> list[Move]:
    try:
        args = bind_or_fetch(run, step, fresh)
    except UnboundReferenceError as unbound:
        run.settle(step, "failed", error("unbound_reference", f"step {step}: {unbound}", step_id=step))
        return []
    if isinstance(args, Start):
        run.progress[step].phase = "binding"
        return [args]
    return [_ready(run, step, args, None, digest(args), terms)]


def _ready(
    run: Run, step: str, args: dict[str, Any] | None, args_ref: str | None, args_hash: str, terms: Terms
) -> Publish:
    if run.limits is None:
        raise ValueError("a run without limits has no plan")
    progress = run.progress[step]
    retries = run.retries_to_grant()
    progress.phase, progress.args_hash, progress.retries = "running", args_hash, retries
    return Publish(
        StepReady(
            task_id=terms.task_id,
            plan_version=run.version,
            step=step,
            definition=run.steps[step],
            args=args,
            args_ref=args_ref,
            args_hash=args_hash,
            grant=run.grants.get(step),
            manifest=run.manifest(),
            limits=run.limits,
            retries=retries,
        )
    )


def _problem(run: Run, event: StepFinished) -> ErrorInfo | None:
    if event.outcome != "succeeded":
        return _of_step(event.step, run, event.error or error(event.outcome))
    needs = {step: progress.needs for step, progress in run.progress.items()}
    path = conflict(event.step, event.changed, run.written(), needs)
    if path is None:
        return None
    message = f"steps that run in parallel wrote {path!r} with different content; order them with `after`"
    return error("workspace_conflict", message, step_id=event.step, path=path)


def _of_step(step: str, run: Run, problem: ErrorInfo) -> ErrorInfo:
    own = problem if problem.step_id else problem.model_copy(update={"step_id": step})
    return bounded(own, len(run.steps))


def _give_up_waiting(run: Run) -> None:
    step = run.in_phase("waiting")[0]
    needs = ", ".join(run.progress[step].needs)
    message = f"step {step} can never start: it waits for {needs}, in a circle or for a step that is not there"
    run.settle(step, "failed", error("plan_invalid", message, step_id=step))


def _settle_unstarted(run: Run) -> list[Move]:
    moves: list[Move] = []
    for step in run.in_phase("waiting", "binding"):
        if run.progress[step].phase == "binding":
            moves.append(Stop(activity_name(run.version, step)))
        if run.cancelled is None:
            run.settle(step, "skipped")
        else:
            run.settle(step, "cancelled", error("cancelled", run.cancelled, step_id=step))
    return moves


def _drop_running(run: Run, reason: str, terms: Terms) -> list[Move]:
    moves: list[Move] = [_step_cancel(run, step, reason, terms) for step in run.in_phase("running")]
    moves += [Stop(activity_name(run.version, step)) for step in run.in_phase("binding")]
    if run.complete and run.settled:
        moves.append(Stop(activity_name(run.version, None)))
    return moves


def _step_cancel(run: Run, step: str, reason: str, terms: Terms) -> Publish:
    return Publish(StepCancel(task_id=terms.task_id, plan_version=run.version, step=step, reason=reason))


def _result_bound(run: Run, answer: Mapping[str, Any] | None, problem: ErrorInfo | None, terms: Terms) -> list[Move]:
    if answer is None:
        return conclude(run, "failed", terms, problem=problem or error("internal", "the result was not bound"))
    return conclude(run, "succeeded", terms, result=answer.get("value"), result_ref=answer.get("ref"))
