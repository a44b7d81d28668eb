"""What a goal asks for, once its words are understood; no file is chosen and no tool named yet."""

from dataclasses import dataclass, field
from typing import Any

from raa_router.offline.lexer import Token


class NotUnderstoodError(Exception):
    """The goal asks for something that the offline model has no rule for; the message is what `cannot` says."""


@dataclass(frozen=True)
class Measure:
    """A function over a column, or over the rows when `column` is None."""

    function: str
    column: Token | None


@dataclass(frozen=True)
class Filter:
    """A condition that rows must fulfil."""

    column: Token
    operator: str
    value: Any


@dataclass
class Request:
    """The parts of a goal about tables. `mentions` keeps the order in which measures and files were named."""

    measures: list[Measure] = field(default_factory=list)
    mentions: list[Measure | str] = field(default_factory=list)
    filters: list[Filter] = field(default_factory=list)
    groups: list[Token] = field(default_factory=list)
    picks: list[Token] = field(default_factory=list)
    top: int | None = None
    whole_rows: bool = False
    descending: bool = True
    order_by: Token | None = None
    compare: bool = False
    every_file: bool = False
    profile: bool = False
    read: bool = False
    writes: bool = False
    report: bool = False
    path: str | None = None
    unmatched: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[str]:
        """Return the inputs that were named, in the order of the goal."""
        return list(dict.fromkeys(item for item in self.mentions if isinstance(item, str)))
