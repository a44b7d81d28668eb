"""The question the planner asks memory before it plans, and the answer (POST /v1/recall)."""

from typing import Literal

from pydantic import Field

from raa_schemas.event import Instant, Part
from raa_schemas.reflection import Evidence, Lesson

Why = Literal["same_content", "same_schema", "same_tool", "same_family"]


class RecallSource(Part):
    """An input of the task."""

    name: str = Field(description="the input's name")
    sha256: str = Field(description="content hash")
    schema_hash: str | None = Field(None, alias="schema", serialization_alias="schema", description="`sch_…`")


class RecallRequest(Part):
    """What the planner is about to plan. The tenant travels in the header `x-raa-tenant`."""

    task: str = Field(description="task id")
    goal: str = Field(description="the task's goal")
    family: str = Field("", description="family of the task; empty: any")
    tools: list[str] = Field(default_factory=list, description="tools the plan may use")
    sources: list[RecallSource] = Field(default_factory=list, description="inputs of the task")
    after: list[str] = Field(default_factory=list, description="ids of reflections the answer must know of")
    limit: int = Field(3, ge=1, le=20, description="lessons at most, per input")


class Recalled(Part):
    """One lesson and why it was chosen."""

    lesson: Lesson = Field(description="the lesson")
    applies_to: list[str] = Field(description="names of the inputs it is about")
    why: list[Why] = Field(description="what matched")


class Support(Part):
    """One task that confirmed a lesson."""

    task_id: str = Field(description="the task")
    attempt: int = Field(ge=1, description="the attempt that confirmed it")
    reflection: str = Field(description="event id of the reflection")
    learned_at: Instant = Field(description="when memory took it in")
    evidence: Evidence = Field(description="the steps, error or check behind it")


class KnownLesson(Part):
    """A lesson as memory knows it: folded from all the tasks of its tenant (GET /v1/lessons)."""

    lesson: Lesson = Field(description="the lesson, with the state memory gives it")
    tasks: int = Field(ge=1, description="different tasks that confirmed it")
    learned_at: Instant = Field(description="first time")
    confirmed_at: Instant = Field(description="newest time")
    contradicted_by: str | None = Field(None, description="newer lesson that says otherwise of the same input")
    support: list[Support] = Field(default_factory=list, description="oldest first; only in GET /v1/lessons/{id}")


class KnownLessons(Part):
    """All lessons of a tenant."""

    lessons: list[KnownLesson] = Field(description="most recently confirmed first")


class RecallAnswer(Part):
    """What memory knows."""

    lessons: list[Recalled] = Field(default_factory=list, description="best first")
    stale: bool = Field(False, description="some reflections named in `after` were not known within 250 ms")
    digest: str = Field(description="digest of `lessons`; cited by the plan")
