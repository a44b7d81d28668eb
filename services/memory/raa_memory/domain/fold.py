"""Folds the deltas of a tenant into what it knows. The order in which deltas arrive does not matter.

The rules, in full:

1. Deltas of one lesson id that say the same (scope, condition, patch) as the newest of them support it; those that
   say something else under the same id do not count.
2. Support is counted in different tasks. One task: `candidate`. Two or more: `trial`. Memory promotes no further,
   because it has not tried the lesson against leaving it out.
3. A newest delta whose state is `stale`, `quarantined` or `retired` takes the lesson out of use, until a newer one
   confirms it again.
4. Two lessons of one kind, scope and condition contradict each other if they set one argument to different values;
   lists never do, because they are united. The one confirmed last stays, the other is `quarantined` and names it.
   A lesson in quarantine contradicts nobody. Confirmed again, it is the newer one, and they change places.
5. Lessons of a kind this release does not know are left alone: kept, not folded.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, get_args

from raa_memory.domain.episode import Delta
from raa_schemas.canonical import canonical_bytes
from raa_schemas.reflection import Lesson, LessonKind, LessonState

KNOWN_KINDS: Final = frozenset(get_args(LessonKind))
USABLE: Final[frozenset[LessonState]] = frozenset({"candidate", "trial", "validated"})
_TAKEN_OUT: Final[frozenset[LessonState]] = frozenset({"stale", "quarantined", "retired"})
TASKS_FOR_TRIAL: Final = 2


@dataclass(frozen=True, slots=True)
class Learned:
    """A lesson with its support, oldest first; `lesson.state` is what memory makes of it."""

    lesson: Lesson
    support: tuple[Delta, ...]
    contradicted_by: str | None = None

    @property
    def tasks(self) -> int:
        """Count the different tasks that confirmed it."""
        return len({delta.task_id for delta in self.support})

    @property
    def learned_at(self) -> datetime:
        """Give the first time."""
        return self.support[0].learned_at

    @property
    def confirmed_at(self) -> datetime:
        """Give the newest time."""
        return self.support[-1].learned_at

    @property
    def usable(self) -> bool:
        """Say whether it may be recalled."""
        return self.lesson.state in USABLE


def fold(deltas: Iterable[Delta]) -> dict[str, Learned]:
    """Fold deltas into lessons by id."""
    by_id: dict[str, dict[tuple[str, bytes], Delta]] = defaultdict(dict)
    for delta in deltas:
        if delta.lesson.kind in KNOWN_KINDS:
            found = by_id[delta.lesson.id]
            key = (delta.reflection, delta.content)
            # a reflection that says the same twice with another text: either, as long as it is always the same one
            found[key] = max(found[key], delta, key=Delta.model_dump_json) if key in found else delta
    learned = {lesson_id: _support(found.values()) for lesson_id, found in by_id.items()}
    return learned | dict(_contradicted(learned.values()))


def contradicts(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two merge patches set one argument to different values."""
    if one.keys().isdisjoint(other):
        return False
    return any(_differ(one[key], other[key]) for key in one.keys() & other.keys())


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return contradicts(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return False
    return canonical_bytes(one) != canonical_bytes(other)


def _support(found: Collection[Delta]) -> Learned:
    """Weigh the deltas of one lesson id."""
    by_age = sorted(found, key=lambda delta: (_age(delta), delta.content))
    newest = by_age[-1]
    support = tuple(delta for delta in by_age if delta.content == newest.content)
    tasks = len({delta.task_id for delta in support})
    state: LessonState = "trial" if tasks >= TASKS_FOR_TRIAL else "candidate"
    if newest.lesson.state in _TAKEN_OUT:
        state = newest.lesson.state
    return Learned(newest.lesson.model_copy(update={"state": state}), support)


def _age(delta: Delta) -> tuple[datetime, str, str]:
    return delta.learned_at, delta.task_id, delta.reflection


def _contradicted(learned: Iterable[Learned]) -> Iterator[tuple[str, Learned]]:
    """Find the lessons that a newer one on the same ground contradicts."""
    grounds: dict[bytes, list[Learned]] = defaultdict(list)
    for one in learned:
        if one.usable:
            grounds[one.support[-1].ground].append(one)
    for rivals in grounds.values():
        standing: list[Learned] = []
        for one in sorted(rivals, key=lambda rival: (_age(rival.support[-1]), rival.lesson.id), reverse=True):
            newer = next((other for other in standing if contradicts(other.lesson.then, one.lesson.then)), None)
            if newer is None:
                standing.append(one)
                continue
            lesson = one.lesson.model_copy(update={"state": "quarantined"})
            yield one.lesson.id, replace(one, lesson=lesson, contradicted_by=newer.lesson.id)
