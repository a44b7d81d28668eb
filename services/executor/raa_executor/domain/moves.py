"""What a decision asks for, as data: the handlers turn each move into one call of the unit of work."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from raa_executor.ports import KeyRing
from raa_schemas.event import Event
from raa_schemas.step import Effect
from raa_schemas.tool import ToolSpec


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the world."""

    event: Event


@dataclass(frozen=True, slots=True)
class Start:
    """Begin an activity; `key` is its idempotency key, None lets the runtime derive one."""

    name: str
    kind: str
    args: dict[str, Any]
    timeout: timedelta
    effect: Effect = "read"
    key: str | None = None
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Stop:
    """End an activity early."""

    name: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Come back at a time; at None: forget the timer."""

    timer: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Close:
    """The aggregate has ended."""


Move = Publish | Start | Stop | Wake | Close


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and when a decision is made, and what this executor knows at that moment."""

    deployment: str
    tenant: str
    task_id: str
    now: datetime
    tools: Mapping[str, ToolSpec]
    keys: KeyRing
