"""Judges an attempt: verdict, label, what to try next and what was learned."""

from typing import NamedTuple

from raa_reflector.domain.attempt import Attempt
from raa_reflector.domain.diagnosis import Diagnosis, diagnose_check, diagnose_failures
from raa_reflector.domain.lesson import distil_lessons
from raa_schemas.reflection import CheckReport, Hypothesis, Label, Lesson, Verdict

UNCHECKED_CONFIDENCE = 0.5
"""A run that ended well without a check says little about its value."""


class Judgement(NamedTuple):
    """What the reflector concludes from an attempt."""

    verdict: Verdict
    reason: str
    label: Label
    report: CheckReport | None
    hypotheses: list[Hypothesis]
    lessons: list[Lesson]


def judge(task_id: str, history: list[Attempt], attempt: Attempt, *, learns: bool) -> Judgement:
    """Judge an attempt in the light of the earlier ones of its task, oldest first.

    Args:
        task_id: named in the evidence.
        history: earlier attempts.
        attempt: the one to judge.
        learns: false when memory is off or the evidence is partial.
    """
    lessons = distil_lessons(task_id, history, attempt) if learns else []
    report = attempt.report
    if attempt.status == "cancelled":
        diagnosis = Diagnosis("the run was cancelled", [], hopeless=True)
    elif attempt.status != "succeeded":
        diagnosis = diagnose_failures(history, attempt)
    elif report is not None and not report.value:
        diagnosis = diagnose_check(history, attempt, report)
    else:
        return Judgement("accept", _accepted(report), _label(attempt), report, [], lessons)
    verdict: Verdict = "give_up" if diagnosis.hopeless else "replan"
    return Judgement(verdict, diagnosis.reason, _label(attempt), report, diagnosis.hypotheses, lessons)


def _accepted(report: CheckReport | None) -> str:
    if report is not None:
        return f"the check {report.check!r} holds"
    return "every step succeeded; without a check nobody knows whether the value is right"


def _label(attempt: Attempt) -> Label:
    if attempt.status != "succeeded":
        return Label(value=0, source="error", confidence=1)
    if attempt.report is None:
        return Label(value=1, source="unchecked", confidence=UNCHECKED_CONFIDENCE)
    return Label(value=1 if attempt.report.value else 0, source="checker", confidence=1)
