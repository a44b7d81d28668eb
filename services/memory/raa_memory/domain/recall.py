"""Chooses what a task should know: lessons about its very inputs, or about inputs of the same shape, or nothing.

No memory is better than a wrong one: without a match by content or by schema nothing is recalled.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from raa_memory.domain.fold import Learned, contradicts
from raa_schemas.canonical import digest
from raa_schemas.recall import RecallAnswer, Recalled, RecallRequest, RecallSource, Why

Rank = tuple[int, int, int, datetime, str]


@dataclass(slots=True)
class _Chosen:
    learned: Learned
    rank: Rank
    applies_to: list[str] = field(default_factory=list)
    why: set[Why] = field(default_factory=set)


class LessonIndex:
    """The usable lessons of one tenant, by the input they are about."""

    def __init__(self, learned: Iterable[Learned]) -> None:
        self._by_content: dict[str, list[Learned]] = defaultdict(list)
        self._by_schema: dict[str, list[Learned]] = defaultdict(list)
        for one in learned:
            if not one.usable:
                continue
            for source in one.sources:
                self._by_content[source].append(one)
            if one.lesson.when.schema_hash:
                self._by_schema[one.lesson.when.schema_hash].append(one)

    def recall(self, request: RecallRequest, *, stale: bool = False) -> RecallAnswer:
        """Answer a request: at most `limit` lessons per input, best first, none that contradicts a better one."""
        chosen: dict[str, _Chosen] = {}
        for source in request.sources:
            for one, rank, why in self._best(source, request):
                entry = chosen.setdefault(one.lesson.id, _Chosen(one, rank))
                entry.rank = max(entry.rank, rank)
                entry.applies_to.append(source.name)
                entry.why |= why
        ranked = sorted(chosen.values(), key=lambda entry: entry.rank, reverse=True)
        lessons = [
            Recalled(lesson=entry.learned.lesson, applies_to=entry.applies_to, why=_ordered(entry.why))
            for entry in ranked
        ]
        return RecallAnswer(
            lessons=lessons, stale=stale, digest=digest([recalled.model_dump(mode="json") for recalled in lessons])
        )

    def _best(self, source: RecallSource, request: RecallRequest) -> list[tuple[Learned, Rank, set[Why]]]:
        matches = [
            (one, *_rank(one, source, request))
            for one in self._matching(source)
            if not request.tools or one.lesson.scope.tool in request.tools
        ]
        matches.sort(key=lambda match: match[1], reverse=True)
        best: list[tuple[Learned, Rank, set[Why]]] = []
        for match in matches:
            if len(best) == request.limit:
                break
            if not any(_conflict(match[0], better[0]) for better in best):
                best.append(match)
        return best

    def _matching(self, source: RecallSource) -> list[Learned]:
        found = {one.lesson.id: one for one in self._by_content.get(source.sha256, ())}
        if source.schema_hash:
            found |= {one.lesson.id: one for one in self._by_schema.get(source.schema_hash, ())}
        return list(found.values())


def _rank(one: Learned, source: RecallSource, request: RecallRequest) -> tuple[Rank, set[Why]]:
    """Rank same content over same schema, then more support, the same family, the newer, and the id for a tie."""
    lesson = one.lesson
    why: set[Why] = {"same_tool"} if request.tools else set()
    same_content = source.sha256 in one.sources
    if same_content:
        why.add("same_content")
    if source.schema_hash and lesson.when.schema_hash == source.schema_hash:
        why.add("same_schema")
    same_family = bool(request.family) and lesson.scope.family == request.family
    if same_family:
        why.add("same_family")
    return (int(same_content), one.tasks, int(same_family), one.confirmed_at, lesson.id), why


def _conflict(one: Learned, other: Learned) -> bool:
    return one.lesson.scope.tool == other.lesson.scope.tool and contradicts(one.lesson.then, other.lesson.then)


def _ordered(why: set[Why]) -> list[Why]:
    order: tuple[Why, ...] = ("same_content", "same_schema", "same_tool", "same_family")
    return [reason for reason in order if reason in why]
