"""What every event is: a versioned model whose type, topic, module and schema file share one name."""

import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.config import ExtraValues

from raa_schemas.ids import TASK_ID_PATTERN

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
MicroUsd = Annotated[int, Field(ge=0, description="money in millionths of a US dollar")]
Instant = AwareDatetime
LabelText = Annotated[str, Field(max_length=1_000)]


def _open_schema(schema: dict[str, Any]) -> None:
    """Say nothing about further properties: that a minor version may add some goes for every part."""
    schema.pop("additionalProperties", None)


class Part(BaseModel):
    """A piece of an event. A minor version only adds fields: whoever reads one leaves out those it does not know.

    Inside the state of a service it holds on to them, so that a newer release finds again what it wrote there.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=_open_schema,
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        defer_build=True,  # a service pays time and memory for the events it uses, not for all
    )

    @classmethod
    def model_validate(
        cls,
        obj: Any,
        *,
        strict: bool | None = None,
        extra: ExtraValues | None = "ignore",
        from_attributes: bool | None = None,
        context: Any | None = None,
        by_alias: bool | None = None,
        by_name: bool | None = None,
    ) -> Self:
        """Read a part by itself, without the fields this release does not know."""
        return super().model_validate(
            obj,
            strict=strict,
            extra=extra,
            from_attributes=from_attributes,
            context=context,
            by_alias=by_alias,
            by_name=by_name,
        )

    @classmethod
    def model_validate_json(
        cls,
        json_data: str | bytes | bytearray,
        *,
        strict: bool | None = None,
        extra: ExtraValues | None = "ignore",
        context: Any | None = None,
        by_alias: bool | None = None,
        by_name: bool | None = None,
    ) -> Self:
        """Read the JSON of a part, without the fields this release does not know."""
        return super().model_validate_json(
            json_data, strict=strict, extra=extra, context=context, by_alias=by_alias, by_name=by_name
        )


@cache
def _type_name(class_name: str) -> str:
    return _WORD_START.sub(".", class_name).lower()


@cache
def _schema_name(class_name: str, major: int) -> str:
    return f"{_type_name(class_name)}.v{major}.json"


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
        return _schema_name(cls.__name__, cls.major)

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
