"""The errors of tools: `ToolError` carries a code of the documented table, ToolDeclarationError stops the start.

ToolError             a call failed in a way its caller can act on
ToolDeclarationError  a tool or a file of tools cannot be used at all
"""

import math
from collections.abc import Mapping
from typing import Any

from raa_schemas.errors import ErrorInfo, error


class ToolError(Exception):
    """End a tool call with a code, a message that says what to do next, and facts a program can use.

    A code of the table in `raa_schemas.errors` brings its hint along; a tool may also use codes of its own.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def info(self, step_id: str | None = None) -> ErrorInfo:
        """Return the error as events carry it: what is no JSON in it is written as text."""
        info = error(_text(self.code), _text(self.message), step_id=step_id)
        return info.model_copy(update={"details": _plain(self.details)})


class ToolDeclarationError(Exception):
    """A tool is declared in a way that cannot work; the message names the tool, the file and the remedy."""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(str(value))


def _text(text: str) -> str:
    """Write half a surrogate pair, as Python makes of file names that are not UTF-8, as its code."""
    return text.encode(errors="backslashreplace").decode()
