"""The arguments that say which table to read and how its cells are written."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CLOSED = ConfigDict(extra="forbid", strict=True)


class ReadOptions(BaseModel):
    """How the cells of a table are written; only delimiter and encoding are found when absent."""

    model_config = CLOSED

    delimiter: str | None = Field(None, min_length=1, max_length=1, description="between fields; found if absent")
    decimal: Literal[".", ","] = Field(".", description="decimal sign of numbers")
    thousands: Literal[".", ",", "'", " ", "_"] | None = Field(None, description="between groups of three digits")
    encoding: str | None = Field(None, description="such as utf-8 or latin-1; found if absent")
    missing: list[int | float | str] = Field(
        [], max_length=100, description="numbers and texts that mean a missing value, beside the empty cell"
    )


class Table(BaseModel):
    """A delimited or JSON file of the workspace and how to read it."""

    model_config = CLOSED

    file: str = Field(description="name of the file in the workspace")
    read: ReadOptions = Field(default_factory=ReadOptions, description="how its cells are written")
