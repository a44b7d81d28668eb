"""Folds the deltas of a tenant into what it knows. The order in which deltas arrive does not matter.

The rules, in full:

1. Deltas of one lesson id that say the same as the newest of them (scope, shape of the input, patch) support it, on
   whatever files; those that say something else under the same id do not count.
2. Support is counted in different tasks. One task: `candidate`. Two or more: `trial`. Memory promotes no further,
   because it has not tried the lesson against leaving it out.
3. A newest delta whose state is `stale`, `quarantined` or `retired` takes the lesson out of use, until a newer one
   confirms it again.
4. Two lessons of one kind and scope contradict each other on a file (without one: on a shape) that both were seen on,
   if they set one argument to different values; lists never do, because they are united. There the one confirmed last
   stands. A lesson that stands nowhere is `quarantined` and names what contradicts it. Confirmed again, it is the newer
   one, and stands again.
5. Lessons of a kind this release does not know are left alone: kept, not folded.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
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
    """A lesson with its support, oldest first; `lesson.state` is what memory makes of it.

    `sources` are the content hashes of the files on which it stands.
    """

    lesson: Lesson
    support: tuple[Delta, ...]
    sources: frozenset[str] = frozenset()
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
    struck = _struck(learned)
    return {lesson_id: _standing(one, struck) for lesson_id, one in learned.items()}


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


def _struck(learned: Mapping[str, Learned]) -> dict[tuple[str, bytes], str]:
    """Find what newer lessons contradict: (lesson id, ground) to the id of the lesson that stands there."""
    grounds: dict[bytes, dict[str, Delta]] = defaultdict(dict)
    for one in learned.values():
        for delta in one.support if one.usable else ():
            grounds[delta.ground][one.lesson.id] = delta  # oldest first, so that the newest remains
    struck: dict[tuple[str, bytes], str] = {}
    for ground, claims in grounds.items():
        standing: list[Delta] = []
        for claim in sorted(claims.values(), key=lambda delta: (_age(delta), delta.lesson.id), reverse=True):
            newer = next((other for other in standing if contradicts(other.lesson.then, claim.lesson.then)), None)
            if newer is None:
                standing.append(claim)
            else:
                struck[claim.lesson.id, ground] = newer.lesson.id
    return struck


def _standing(one: Learned, struck: Mapping[tuple[str, bytes], str]) -> Learned:
    lesson = one.lesson
    stands = [delta for delta in one.support if (lesson.id, delta.ground) not in struck]
    if stands or not one.usable:
        sources = frozenset(delta.lesson.when.source_sha256 or "" for delta in stands) - {""}
        return replace(one, sources=sources)
    quarantined = lesson.model_copy(update={"state": "quarantined"})
    return replace(one, lesson=quarantined, contradicted_by=struck[lesson.id, one.support[-1].ground])
