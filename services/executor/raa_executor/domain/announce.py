"""Tells the world how steps settled: numbers each `step.done`, and ends the run with the last one."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from raa_executor.domain.binding import bind_or_fetch
from raa_executor.domain.moves import Close, Move, Publish, Start, Wake
from raa_executor.domain.run_state import Run
from raa_executor.domain.terms import Terms
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.plan import UnboundReferenceError
from raa_schemas.step import RunStatus, StepDone, StepRecord

DEADLINE: Final = "deadline"
# a replan may follow the end of a run; after this the task has ended by any reckoning
_KEEP: Final = timedelta(days=1)


def announce(run: Run, fresh: Mapping[str, Any], terms: Terms) -> list[Move]:
    """Publish every settled step that was not told yet; the last of all waits until the result is bound."""
    untold = run.settled[run.announced :]
    now = untold[:-1] if run.complete else untold
    moves: list[Move] = [Publish(_step_done(run, step, fresh, terms)) for step in now]
    return moves + _end(run, fresh, terms) if run.complete and untold else moves


def conclude(
    run: Run,
    status: RunStatus,
    terms: Terms,
    *,
    fresh: Mapping[str, Any] | None = None,
    result: Any = None,
    result_ref: str | None = None,
    problem: ErrorInfo | None = None,
) -> list[Move]:
    """End the run with the terminal `step.done`; `problem` is what went wrong with the result."""
    last = _step_done(run, run.settled[-1], fresh or {}, terms)
    told = last.model_copy(
        update={
            "run_status": status,
            "result": result,
            "result_ref": result_ref,
            "error": problem or last.error,
            "manifest": [_record(run, step) for step in run.steps],
            "artifacts": run.artifacts(),
            "retries_used": run.retries_used,
        }
    )
    run.status = status
    run.forget()
    deadline = max(run.limits.deadline, terms.now) if run.limits else terms.now
    return [Publish(told), Close() if run.cancelled is not None else Wake(DEADLINE, deadline + _KEEP)]


def _end(run: Run, fresh: Mapping[str, Any], terms: Terms) -> list[Move]:
    if run.ending:
        return conclude(run, "failed" if run.cancelled is None else "cancelled", terms, fresh=fresh)
    try:
        result = bind_or_fetch(run, None, fresh)
    except UnboundReferenceError as unbound:
        problem = error("unbound_reference", f"the plan's result: {unbound}; correct its pointer")
        return conclude(run, "failed", terms, fresh=fresh, problem=problem)
    except ValueError as unreadable:
        return conclude(run, "failed", terms, fresh=fresh, problem=error("plan_invalid", f"the result: {unreadable}"))
    if isinstance(result, Start):
        return [result]
    return conclude(run, "succeeded", terms, fresh=fresh, result=result)


def _step_done(run: Run, step: str, fresh: Mapping[str, Any], terms: Terms) -> StepDone:
    run.announced += 1
    progress = run.progress[step]
    told = progress.model_dump(include={"attempt", "epoch", "effect", "args_hash", "output_ref", "output_digest"})
    return StepDone(
        task_id=terms.task_id,
        plan_version=run.version,
        step=step,
        tool=run.steps[step].tool,
        run_seq=run.announced,
        run_status="running",
        outcome=progress.outcome or "skipped",
        error=progress.error,
        output=fresh.get(step, progress.output),
        usage=progress.usage,
        steps_done=run.announced,
        steps_total=len(run.progress),
        **told,
    )


def _record(run: Run, step: str) -> StepRecord:
    progress = run.progress[step]
    told = progress.model_dump(include={"attempt", "effect", "args_hash", "output", "output_ref", "output_digest"})
    return StepRecord(definition=run.steps[step], outcome=progress.outcome or "skipped", error=progress.error, **told)
