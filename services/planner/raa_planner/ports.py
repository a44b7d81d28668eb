"""What the planner needs of the outside: a memory, a model, the tools there are, its own newest reflections, files."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from raa_schemas.recall import RecallAnswer, RecallRequest
from raa_schemas.tool import ToolList


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a model. A second one with the same key gets the stored answer of the first."""

    messages: list[dict[str, str]]
    key: str
    tenant: str
    task_id: str
    deadline: datetime
    budget_microusd: int | None = None


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model said, which one it was, and what it cost."""

    text: str
    model: str | None = None
    cost_microusd: int = 0


class Model(Protocol):
    """Answers prompts."""

    async def complete(self, question: Question) -> ModelAnswer:
        """Ask; raises TransientError while no model answers, ActivityFailed when none ever will."""
        ...


class Memory(Protocol):
    """Knows lessons."""

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        """Ask for lessons, within about a second; raises TransientError when memory does not answer."""
        ...


class ToolCatalog(Protocol):
    """Knows which tools the executors offer."""

    async def tools(self) -> ToolList:
        """Give the newest list known; raises TransientError while none was ever loaded."""
        ...


class HandledReflections(Protocol):
    """Knows which reflections the planner has handled."""

    async def newest(self, tenant: str) -> list[str]:
        """Give the ids of a tenant's newest handled reflections, newest first."""
        ...


class InputFiles(Protocol):
    """Finds the files that `file:` inputs name."""

    def locate(self, name: str, uri: str) -> Path:
        """Give the real path of a regular file below an input root; raises ActivityFailed saying what is wrong."""
        ...
