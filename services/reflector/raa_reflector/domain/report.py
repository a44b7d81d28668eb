"""Writes reflection.done from a judgement and the attempt it is about."""

from typing import Final, Literal

from raa_reflector.domain.attempt import Attempt, Ran
from raa_reflector.domain.case import Planned
from raa_reflector.domain.judge import Judgement
from raa_schemas.family import family_of
from raa_schemas.reflection import Episode, Label, ReflectionDone

PARTIAL_CONFIDENCE: Final = 0.5


def reflection(
    task_id: str,
    planned: Planned,
    attempt: Attempt,
    judgement: Judgement,
    *,
    partial: bool,
    memory: Literal["on", "off"],
) -> ReflectionDone:
    """Compose the event of a judged attempt."""
    label = judgement.label
    if partial:
        label = label.model_copy(update={"confidence": min(label.confidence, PARTIAL_CONFIDENCE)})
    return ReflectionDone(
        task_id=task_id,
        plan_version=attempt.plan.version,
        verdict=judgement.verdict,
        reason=judgement.reason,
        label=label,
        checked=judgement.report is not None,
        check=judgement.report,
        partial_evidence=partial,
        hypotheses=judgement.hypotheses,
        lessons=judgement.lessons,
        episode=_episode(planned, attempt),
        memory=memory,
    )


def unjudgeable(task_id: str, plan_version: int, attempt: int, ran: Ran) -> ReflectionDone:
    """Give up on a run of which neither plan nor task ever arrived: nobody knows what it should have achieved."""
    return ReflectionDone(
        task_id=task_id,
        plan_version=plan_version,
        verdict="give_up",
        reason="neither task.created nor plan.ready of this run arrived, so its result cannot be judged; see the "
        "dead letters of the reflector and submit the task again",
        label=Label(value=0, source="unchecked", confidence=0),
        checked=False,
        partial_evidence=True,
        episode=Episode(attempt=attempt, plan_hash="", outcome=ran.status),
        memory="off",
    )


def _episode(planned: Planned, attempt: Attempt) -> Episode:
    error = next((failure.error for failure in attempt.failures if failure.error is not None), None)
    return Episode(
        attempt=attempt.number,
        plan_hash=planned.plan_hash,
        goal=planned.goal,
        family=family_of(attempt.plan),
        outcome=attempt.status,
        error_code=error.code if error is not None else None,
        sources=[source.sha256 for source in attempt.sources],
        lessons_used=attempt.plan.lessons,
        started_at=planned.ready_at,
    )
