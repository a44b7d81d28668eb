"""What memory keeps of a task: its attempts and the lessons they confirmed, in the order they arrived."""

from datetime import datetime
from functools import cached_property
from typing import Final

from pydantic import Field

from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_schemas.canonical import canonical_bytes
from raa_schemas.reflection import Episode, Label, Lesson, ReflectionDone

LEARNED: Final = "learned_at"
MOST_LESSONS: Final = 20
LARGEST_LESSON_BYTES: Final = 8_192
_GOAL_CHARACTERS: Final = 2_000


class Attempt(State):
    """One attempt as it was judged."""

    reflection: str
    plan_version: int
    verdict: str
    label: Label
    checked: bool
    partial: bool = False
    episode: Episode


class Delta(State):
    """One lesson as one attempt confirmed it. Deltas are only ever appended; `fold` says what they amount to."""

    reflection: str
    task_id: str
    attempt: int
    learned_at: datetime
    lesson: Lesson

    @cached_property
    def content(self) -> bytes:
        """What the lesson says about inputs of one shape: equal for two that support each other."""
        lesson = self.lesson
        about = lesson.when.schema_hash or lesson.when.source_sha256
        return canonical_bytes([lesson.kind, lesson.scope.model_dump(), about, lesson.then])

    @cached_property
    def ground(self) -> bytes:
        """What it was seen on: equal for two that could contradict each other, because the input was the same."""
        lesson = self.lesson
        seen_on = lesson.when.source_sha256 or lesson.when.schema_hash
        return canonical_bytes([lesson.kind, lesson.scope.model_dump(), seen_on])


class EpisodeLog(State):
    """The deltas of one task, and which reflections they came from."""

    reflections: list[str] = Field(default_factory=list)
    attempts: list[Attempt] = Field(default_factory=list)
    deltas: list[Delta] = Field(default_factory=list)
    left_out: int = 0

    def take(self, reflection: str, done: ReflectionDone, now: datetime) -> None:
        """Append what a reflection says; with memory off only that it was seen, and from partial evidence no lesson."""
        self.reflections.append(reflection)
        if done.memory == "off":
            return
        self.attempts.append(
            Attempt(
                reflection=reflection,
                plan_version=done.plan_version,
                verdict=done.verdict,
                label=done.label,
                checked=done.checked,
                partial=done.partial_evidence,
                episode=done.episode.model_copy(update={"goal": done.episode.goal[:_GOAL_CHARACTERS]}),
            )
        )
        if not done.partial_evidence:
            self._learn(reflection, done, now)

    def _learn(self, reflection: str, done: ReflectionDone, now: datetime) -> None:
        fitting = [lesson for lesson in done.lessons[:MOST_LESSONS] if _fits(lesson)]
        self.left_out += len(done.lessons) - len(fitting)
        self.deltas += [
            Delta(
                reflection=reflection, task_id=done.task_id, attempt=done.episode.attempt, learned_at=now, lesson=lesson
            )
            for lesson in fitting
        ]


def _fits(lesson: Lesson) -> bool:
    return len(canonical_bytes(lesson.model_dump(mode="json"))) <= LARGEST_LESSON_BYTES


EPISODE = Kind("episode", EpisodeLog, indexes=(LEARNED,))
