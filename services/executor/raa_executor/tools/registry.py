"""The tools of one executor: collects them, loads the user's file, and calls one by name."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from raa_executor.tools.boundary import Outcome, run_foreign
from raa_executor.tools.context import CallContext, Happened
from raa_executor.tools.declare import Tool, tool
from raa_executor.tools.errors import ToolDeclarationError, ToolError
from raa_executor.tools.workspace import Workspace
from raa_schemas.tool import ToolSpec

__all__ = [
    "CallContext",
    "Happened",
    "Tool",
    "ToolDeclarationError",
    "ToolError",
    "ToolRegistry",
    "ToolSpec",
    "Workspace",
    "call",
    "probe",
    "tool",
]


class ToolRegistry:
    """Tools by name; a name is given once."""

    def __init__(self, tools: Iterable[Tool[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool[..., Any]] = {}
        for one in tools:
            self.add(one)

    def add(self, added: Tool[..., Any]) -> None:
        """Add a tool.

        Raises:
            ToolDeclarationError: another tool has this name.
        """
        name = added.spec.name
        there = self._tools.get(name)
        if there is not None and there is not added:
            where = f"{_origin(there)} and {_origin(added)}"
            raise ToolDeclarationError(f"two tools are named {name}: in {where}; give one another @tool(name=…)")
        self._tools[name] = added

    def get(self, name: str) -> Tool[..., Any]:
        """Return the tool called `name`.

        Raises:
            ToolError: `unknown_tool`, with the names there are.
        """
        found = self._tools.get(name)
        if found is None:
            names = sorted(self._tools)
            message = f"there is no tool '{name}'; use one of {', '.join(names)}, or load yours with --tools FILE"
            raise ToolError("unknown_tool", message, {"tool": name, "tools": names})
        return found

    def specs(self) -> list[ToolSpec]:
        """Return the declarations, sorted by name."""
        return [self._tools[name].spec for name in sorted(self._tools)]

    def load_file(self, path: Path) -> list[ToolSpec]:
        """Import a Python file by its path, add every tool in it, and return their declarations.

        Raises:
            ToolDeclarationError: the file cannot be imported, holds no tool, or a name is taken.
        """
        module = _import(path)
        found = {id(value): value for value in vars(module).values() if isinstance(value, Tool)}
        if not found:
            raise ToolDeclarationError(f"{path} declares no tool; put @tool(…) above a typed function")
        for one in found.values():
            self.add(one)
        return [one.spec for one in found.values()]


async def call(
    registry: ToolRegistry,
    name: str,
    args: Mapping[str, Any],
    workspace: Workspace,
    context: CallContext,
    *,
    timeout_seconds: float | None = None,
) -> Any:
    """Run a tool and return its output as a JSON value; `timeout_seconds` can only shorten the declared time.

    A plain function runs in a thread, which Python cannot stop: after a timeout it may still run to its end.

    Raises:
        ToolError: `unknown_tool`, `bad_arguments`, `tool_timeout`, `tool_error` for anything else the function
            raises, `bad_output`, or what the tool itself raised.
    """
    called = registry.get(name)
    keywords = called.bind(args, workspace, context)
    seconds = min(called.spec.timeout_seconds, timeout_seconds or called.spec.timeout_seconds)
    return _jsonable(name, await _value(name, called.function, keywords, seconds))


async def probe(
    registry: ToolRegistry, name: str, args: Mapping[str, Any], workspace: Workspace, context: CallContext
) -> Happened | None:
    """Ask a `checkable` tool whether the action of this call was done.

    Raises:
        ToolError: as `call`; `tool_error` also when the tool has no probe.
    """
    asked = registry.get(name)
    if asked.probe is None:
        raise ToolError("tool_error", f"{name} has no probe; only checkable tools can be asked")
    keywords = asked.bind(args, workspace, context)
    answer = await _value(name, asked.probe, keywords, asked.spec.timeout_seconds)
    if answer is None:
        return None
    if not isinstance(answer, Happened):
        raise ToolError("bad_output", f"the probe of {name} must return Happened(output) or None")
    return Happened(_jsonable(name, answer.output))


async def _value(name: str, function: Any, keywords: dict[str, Any], seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            outcome: Outcome = await run_foreign(function, keywords)
    except TimeoutError:
        message = f"{name} did not end within {seconds:g} s; give it less to do or declare a longer timeout"
        raise ToolError("tool_timeout", message, {"timeout_seconds": seconds}) from None
    if outcome.error is None:
        return outcome.value
    if isinstance(outcome.error, ToolError):
        raise outcome.error
    raise _crashed(name, outcome.error) from outcome.error


def _crashed(name: str, error: BaseException) -> ToolError:
    kind = type(error).__name__
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    line = "" if frame is None else f", line {frame.tb_lineno} of {Path(frame.tb_frame.f_code.co_filename).name}"
    return ToolError("tool_error", f"{name} raised {kind}: {error}{line}", {"type": kind})


def _jsonable(name: str, value: Any) -> Any:
    try:
        plain = to_jsonable_python(value, by_alias=True)
        json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError as half:
        message = (
            f"{name} returned text that is no Unicode: it holds {half.object[half.start]!a}, half a surrogate pair; "
            "decode bytes with errors='replace', or return them as base64"
        )
        raise ToolError("bad_output", message) from None
    except (PydanticSerializationError, ValueError, TypeError) as unsuitable:
        message = f"{name} returned a value that JSON cannot carry ({unsuitable}); return dicts, lists, text, numbers"
        raise ToolError("bad_output", message) from None
    return plain


def _import(path: Path) -> ModuleType:
    """Import by path under a name of its own; the file's folder is searched for its own imports."""
    if not path.is_file():
        raise ToolDeclarationError(f"there is no file {path}; --tools wants the path of a Python file")
    name = f"raa_user_tools_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ToolDeclarationError(f"{path} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints that are text are looked up here
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    outcome = Outcome()
    with outcome:
        spec.loader.exec_module(module)
    if outcome.error is not None:
        del sys.modules[name]
        raise _import_failed(path, outcome.error) from outcome.error
    return module


def _import_failed(path: Path, error: BaseException) -> ToolDeclarationError:
    if isinstance(error, ToolDeclarationError):
        return ToolDeclarationError(f"{path}: {error}")
    if isinstance(error, SyntaxError):
        return ToolDeclarationError(f"{path} line {error.lineno}: {error.msg}; correct it and start again")
    return ToolDeclarationError(f"{path} cannot be imported: {type(error).__name__}: {error}")


def _origin(declared: Tool[..., Any]) -> str:
    code = getattr(declared.function, "__code__", None)
    return f"{Path(code.co_filename).name} line {code.co_firstlineno}" if code else repr(declared.function)
