"""Lists tools, and calls one alone."""

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any

from raa_cli.execute import CommandFailed, UsageProblem
from raa_cli.output import note, print_json, print_rows
from raa_cli.session import Place, configured_url, owner
from raa_cli.telling import printable_text
from raa_cli.web import ask
from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.context import CallContext
from raa_executor.tools.errors import ToolDeclarationError, ToolError
from raa_executor.tools.registry import ToolRegistry, call
from raa_executor.tools.workspace import Workspace


async def ls(place: Place, tools: Sequence[Path], *, as_json: bool) -> None:
    """List tools: one object per line, or a table."""
    for spec in await _specs(place, tools):
        if as_json:
            print_json(spec)
    if not as_json:
        rows = [
            [spec["name"], spec["risk"], spec["effect"], spec["description"]] for spec in await _specs(place, tools)
        ]
        print_rows(rows, ["tool", "risk", "effect", "what it does"])


async def _specs(place: Place, tools: Sequence[Path]) -> list[dict[str, Any]]:
    info = None if tools else await owner(place.data)
    if tools or (place.bus == "embedded" and not info):
        return [spec.model_dump(mode="json") for spec in _registry(tools).specs()]
    url = info["urls"]["executor"] if info else configured_url("executor")
    listed: list[dict[str, Any]] = (await ask(url, "/v1/tools"))["tools"]
    return listed


def _registry(files: Sequence[Path]) -> ToolRegistry:
    registry = built_in_tools()
    for file in files:
        if not file.is_file():
            raise UsageProblem(f"--tools: there is no file {file}; name a Python file with @tool functions")
        try:
            registry.load_file(file)
        except ToolDeclarationError as problem:
            raise UsageProblem(str(problem)) from None
    return registry


async def run(
    name: str,
    pairs: Sequence[str],
    args: str | None,
    *,
    inputs: Sequence[Path],
    tools: Sequence[Path],
    save: Path | None,
    data: Path,
    as_json: bool,
) -> None:
    """Call a tool in a workspace of its own."""
    registry, arguments = _registry(tools), _arguments(pairs, args)
    files = {path.name: _input(path) for path in inputs}
    with tempfile.TemporaryDirectory(prefix="raa-tool-", dir=data if data.is_dir() else None) as folder:
        workspace = Workspace(Path(folder), files)
        try:
            output = await call(registry, name, arguments, workspace, _context(name))
        except ToolError as problem:
            raise CommandFailed(str(problem)) from None
        written = _saved(workspace, save)
    if as_json:
        print_json({"tool": name, "output": output, "files": written})
        return
    print(printable_text(output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, indent=2)))
    for file in written:
        note(f"wrote {file}" if save else f"it wrote {file}; --save DIR keeps it")


def _context(name: str) -> CallContext:
    later = datetime.now(UTC) + timedelta(hours=1)
    return CallContext(f"alone-{name}", "default", "alone", name.replace(".", "-"), 1, later)


def _arguments(pairs: Sequence[str], args: str | None) -> dict[str, Any]:
    given = _json(args) if args else {}
    if not isinstance(given, dict):
        raise UsageProblem(f"--args must be one JSON object, not {args!r}")
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign:
            raise UsageProblem(f"{pair!r} is no argument; write NAME=VALUE, for example expression='1 + 1'")
        given[key] = _value(text)
    return given


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise UsageProblem(f"--args is no JSON: {problem}") from None


def _value(text: str) -> Any:
    """Read a value as JSON; what is none is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _input(path: Path) -> Path:
    if not path.is_file():
        raise UsageProblem(f"--input: there is no file {path}; check the path")
    return path.resolve()


def _saved(workspace: Workspace, folder: Path | None) -> list[str]:
    changed = workspace.changed()
    if folder is None:
        return sorted(changed)
    for name, source in changed.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copyfile(source, folder / name)
    return [str(folder / name) for name in sorted(changed)]
