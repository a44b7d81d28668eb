"""What one tenant's tasks have taught, kept folded in the process and rebuilt from deltas at any time."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from raa_memory.domain.episode import Delta, EpisodeLog
from raa_memory.domain.fold import Learned, fold
from raa_memory.domain.recall import LessonIndex
from raa_schemas.recall import KnownLesson, Support

REFLECTIONS_KEPT: Final = 20_000


class TenantMemory:
    """Deltas by task, and the lessons they amount to. Taking the same log twice changes nothing."""

    def __init__(self) -> None:
        self._deltas: dict[str, list[Delta]] = {}
        self._taken: OrderedDict[str, int] = OrderedDict()
        self._reflections: OrderedDict[str, None] = OrderedDict()
        self._learned: dict[str, Learned] | None = None
        self._index: LessonIndex | None = None

    def take(self, aggregate: str, log: EpisodeLog) -> bool:
        """Take in what a task has taught so far; says whether anything of it is new. Logs only grow."""
        before = self._taken.get(aggregate, 0)
        if len(log.reflections) <= before:
            return False
        self._taken[aggregate] = len(log.reflections)
        if len(self._taken) > REFLECTIONS_KEPT:  # one that comes back is taken again, which changes nothing
            self._taken.popitem(last=False)
        for reflection in log.reflections[before:]:
            self._reflections[reflection] = None
        while len(self._reflections) > REFLECTIONS_KEPT:
            self._reflections.popitem(last=False)
        if len(log.deltas) > len(self._deltas.get(aggregate, ())):
            self._deltas[aggregate] = list(log.deltas)
            self._learned = self._index = None
        return True

    def knows(self, reflections: Iterable[str]) -> bool:
        """Say whether all these reflections have been taken in."""
        return all(reflection in self._reflections for reflection in reflections)

    @property
    def learned(self) -> dict[str, Learned]:
        """Give all lessons by id; folded anew only after something was learned."""
        if self._learned is None:
            self._learned = fold(delta for deltas in self._deltas.values() for delta in deltas)
        return self._learned

    @property
    def index(self) -> LessonIndex:
        """Give the usable lessons by the input they are about."""
        if self._index is None:
            self._index = LessonIndex(self.learned.values())
        return self._index


def known_lesson(learned: Learned, *, with_support: bool) -> KnownLesson:
    """Show a lesson as the outside sees it."""
    support = [
        Support(
            task_id=delta.task_id,
            attempt=delta.attempt,
            reflection=delta.reflection,
            learned_at=delta.learned_at,
            evidence=delta.lesson.evidence,
        )
        for delta in learned.support
    ]
    return KnownLesson(
        lesson=learned.lesson,
        tasks=learned.tasks,
        learned_at=learned.learned_at,
        confirmed_at=learned.confirmed_at,
        contradicted_by=learned.contradicted_by,
        support=support if with_support else [],
    )
