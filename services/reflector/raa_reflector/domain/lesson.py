"""Distils lessons: compares an attempt with the earlier ones it did better than, and keeps the smallest difference.

A lesson says how to read a source; it never holds what a goal asked for (columns, filters, aggregates), because the
next goal on the same source asks for something else.
"""

import hashlib
from typing import Any

from raa_reflector.domain.attempt import Attempt, Use
from raa_reflector.domain.diagnosis import error_options
from raa_reflector.domain.trace import origins
from raa_reflector.domain.wording import tell
from raa_schemas.artifact import Source
from raa_schemas.canonical import canonical_bytes
from raa_schemas.check import failed_path
from raa_schemas.family import family_of
from raa_schemas.merge import difference
from raa_schemas.reflection import Evidence, Lesson, Scope, When


def distil_lessons(task_id: str, history: list[Attempt], attempt: Attempt) -> list[Lesson]:
    """List what an attempt confirms: an error that went away, a check that now holds; each lesson once."""
    found: dict[str, Lesson] = {}
    for lesson in [*_from_errors(task_id, history, attempt), *_from_check(task_id, history, attempt)]:
        known = found.get(lesson.id)
        found[lesson.id] = lesson if known is None else _joined(known, lesson)
    return list(found.values())


def _from_errors(task_id: str, history: list[Attempt], attempt: Attempt) -> list[Lesson]:
    lessons: list[Lesson | None] = []
    for use in attempt.uses:
        before = _failed_before(history, use) if use.outcome == "succeeded" else None
        if before is None:
            continue
        earlier, failed = before
        error = failed.error
        if error is None or error.retryable:
            continue  # it may have gone away by itself
        change = _minimal(failed, use, error_options(earlier, failed))
        evidence = Evidence(
            failed=[earlier.cite(failed.step)],
            fixed=_fixed(attempt, use),
            task_id=task_id,
            because={"code": error.code, "column": error.details.get("column")},
        )
        lessons.append(_lesson(attempt, use, change, evidence))
    return [lesson for lesson in lessons if lesson is not None]


def _from_check(task_id: str, history: list[Attempt], attempt: Attempt) -> list[Lesson]:
    earlier = next((past for past in reversed(history) if past.report is not None), None)
    if earlier is None or earlier.report is None or earlier.report.value:
        return []
    place = failed_path(earlier.report)
    if attempt.report is None or not attempt.report.value or place is None:
        return []
    lessons: list[Lesson | None] = []
    for origin in origins(earlier.plan, place):
        before = earlier.use_of(origin.step)
        after = _counterpart(attempt, before) if before is not None else None
        if before is None or after is None or before.rest != after.rest:
            continue  # a filter or another aggregate may have made the check hold
        evidence = Evidence(
            failed=[earlier.cite(before.step)],
            fixed=_fixed(attempt, after),
            task_id=task_id,
            because={"check": earlier.report.check, "actual": (earlier.report.failed_atom or {}).get("actual")},
        )
        lessons.append(_lesson(attempt, after, _changed(before, after), evidence))
    return [lesson for lesson in lessons if lesson is not None]


def _failed_before(history: list[Attempt], use: Use) -> tuple[Attempt, Use] | None:
    """Find the newest earlier attempt that settled the same call; None unless the call failed there."""
    for past in reversed(history):
        alike = [known for known in past.uses if _same_call(known, use) and known.outcome in {"succeeded", "failed"}]
        failed = [known for known in alike if known.outcome == "failed"]
        if alike:
            nearest = sorted(failed, key=lambda known: known.step != use.step)
            return (past, nearest[0]) if nearest else None
    return None


def _counterpart(attempt: Attempt, before: Use) -> Use | None:
    alike = [use for use in attempt.uses if _same_call(use, before) and use.outcome == "succeeded"]
    return min(alike, key=lambda use: use.step != before.step, default=None)


def _same_call(one: Use, other: Use) -> bool:
    return (one.tool, one.file, one.argument) == (other.tool, other.file, other.argument)


def _changed(before: Use, after: Use) -> dict[str, Any]:
    """Give what `after` says and `before` did not; what was only taken away is no lesson."""
    if before.options is None or after.options is None:
        return {}
    return _without_nulls(difference(before.options, after.options))


def _without_nulls(patch: dict[str, Any]) -> dict[str, Any]:
    kept = {
        key: _without_nulls(item) if isinstance(item, dict) else item for key, item in patch.items() if item is not None
    }
    return {key: item for key, item in kept.items() if item != {}}


def _minimal(failed: Use, fixed: Use, expected: dict[str, Any]) -> dict[str, Any]:
    """Keep what the error asked for, if the change holds all of it; else the change, if nothing else was changed."""
    change = _changed(failed, fixed)
    if expected and _holds(change, expected):
        return expected
    return change if failed.rest == fixed.rest else {}


def _holds(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _holds(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(item in whole for item in part)
    return bool(whole == part)


def _fixed(attempt: Attempt, use: Use) -> list[str]:
    return [attempt.cite(step) for step in [*use.informed_by, use.step]]


def _lesson(attempt: Attempt, use: Use, change: dict[str, Any], evidence: Evidence) -> Lesson | None:
    source = attempt.source(use.file)
    if not change or source is None:
        return None  # a file the task wrote itself is nothing a later task will meet
    scope = Scope(family=family_of(attempt.plan), tool=use.tool)
    then = {"args": {use.argument: change}}
    return Lesson(
        id=_lesson_id(scope, source, then),
        kind="recover",
        scope=scope,
        when=When(source_sha256=source.sha256, schema_hash=source.schema_hash),
        then=then,
        text=tell(use.tool, change),
        evidence=evidence,
    )


def _lesson_id(scope: Scope, source: Source, then: dict[str, Any]) -> str:
    """Derive the id from what a lesson says, so that learning it twice is learning it once."""
    about = source.schema_hash or source.sha256
    content = canonical_bytes([scope.model_dump(), about, then])
    return f"les_{hashlib.sha256(content).hexdigest()[:16]}"


def _joined(one: Lesson, other: Lesson) -> Lesson:
    evidence = one.evidence.model_copy(
        update={
            "failed": list(dict.fromkeys([*one.evidence.failed, *other.evidence.failed])),
            "fixed": list(dict.fromkeys([*one.evidence.fixed, *other.evidence.fixed])),
        }
    )
    return one.model_copy(update={"evidence": evidence})
