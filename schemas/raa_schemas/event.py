"""What every event is: a versioned model whose type, topic, module and schema file share one name."""

import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from raa_schemas.ids import TASK_ID_PATTERN

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
MicroUsd = Annotated[int, Field(ge=0, description="money in millionths of a US dollar")]
Instant = AwareDatetime
LabelText = Annotated[str, Field(max_length=1_000)]


class Part(BaseModel):
    """A piece of an event. Unknown fields are ignored: a minor version only adds."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        defer_build=True,  # a service pays time and memory for the events it uses, not for all
    )


@cache
def _type_name(class_name: str) -> str:
    return _WORD_START.sub(".", class_name).lower()


class Event(Part):
    """One fact that was published about one task."""

    major: ClassVar[int] = 1

    task_id: str = Field(pattern=TASK_ID_PATTERN, description="the task this event is about")
    correlation_id: str | None = Field(None, max_length=256, description="the client's own id, returned unchanged")
    labels: dict[str, LabelText] = Field(
        default_factory=dict,
        max_length=64,
        description="the client's own labels, returned unchanged: 64 of 1,000 characters",
    )

    @classmethod
    def event_type(cls) -> str:
        """Derive the CloudEvents type, which is also the topic, from the class name: TaskCreated is task.created."""
        return _type_name(cls.__name__)

    @classmethod
    def schema_name(cls) -> str:
        """Name the JSON Schema: `<event>.v<major>.json`, the tail of the attribute `dataschema`."""
        return f"{cls.event_type()}.v{cls.major}.json"

    def to_json(self) -> bytes:
        """Encode as the JSON value of a record."""
        return self.model_dump_json().encode()


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 time with offset; raises ValueError."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"the time {text!r} has no offset; write for example 2026-01-31T12:00:00Z")
    return instant


JsonObject = dict[str, Any]
