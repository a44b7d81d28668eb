"""The question the planner asks memory before it plans, and the answer (POST /v1/recall)."""

from typing import Literal

from pydantic import Field

from raa_schemas.event import Part
from raa_schemas.reflection import Lesson

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


class RecallAnswer(Part):
    """What memory knows."""

    lessons: list[Recalled] = Field(default_factory=list, description="best first")
    stale: bool = Field(False, description="some reflections named in `after` were not known within 250 ms")
    digest: str = Field(description="digest of `lessons`; cited by the plan")
