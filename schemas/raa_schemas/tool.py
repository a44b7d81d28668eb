"""What planner and safety know of a tool: its declaration, as executors publish it (GET /v1/tools)."""

from typing import Any

from pydantic import Field

from raa_schemas.event import Part
from raa_schemas.step import Effect, Risk


class ToolSpec(Part):
    """A tool's declaration."""

    name: str = Field(min_length=1, max_length=128, description="for example table.query")
    description: str = Field("", description="one line, for models and people")
    arguments: dict[str, Any] = Field(description="JSON Schema of the arguments")
    effect: Effect = Field("once", description="what a crash between intent and outcome allows")
    risk: Risk = Field("external", description="what safety's policy decides on")
    timeout_seconds: float = Field(60, gt=0, description="when a call is stopped")
    schema_hash: str = Field("", description="digest of name, arguments, effect and risk")


class ToolList(Part):
    """All tools an executor offers."""

    tools: list[ToolSpec] = Field(default_factory=list, description="sorted by name")
    digest: str = Field(description="digest of the list")
