"""Built-in tools for files of the workspace: list, read as text, write from parts."""

from typing import Annotated, Any

from pydantic import Field

from raa_executor.tools.declare import tool
from raa_executor.tools.errors import ToolError
from raa_executor.tools.workspace import Workspace
from raa_runtime.tabular import read_head, sniff
from raa_schemas.canonical import canonical_bytes, digest_bytes

MAX_READ_CHARS = 1_000_000
_MAX_WRITE_BYTES = 16 * 1024 * 1024


@tool(name="file.list", effect="read", risk="read", timeout=30)
def list_files(workspace: Workspace) -> dict[str, Any]:
    """List the files of the task's workspace with their sizes in bytes."""
    names = workspace.names()
    return {"files": [{"name": name, "size": workspace.path_of(name).stat().st_size} for name in names]}


@tool(name="file.read", effect="read", risk="read", timeout=30)
def read_file(
    workspace: Workspace,
    file: Annotated[str, Field(description="name of the file in the workspace")],
    max_chars: Annotated[int, Field(ge=1, le=MAX_READ_CHARS, description="read at most this many characters")] = 20_000,
    encoding: Annotated[str | None, Field(description="such as utf-8; found from the first bytes if absent")] = None,
) -> dict[str, Any]:
    """Read a text file of the workspace, from its beginning."""
    path = workspace.path_of(file)
    try:
        found = sniff(read_head(path), encoding=encoding)
    except LookupError:
        raise ToolError("bad_arguments", f"'{encoding}' is no known encoding; try utf-8 or latin-1") from None
    if found.format == "binary":
        raise ToolError("not_text", f"'{file}' holds binary data, not text; use a tool made for its format")
    with path.open(encoding=found.encoding, errors="replace") as opened:
        text = opened.read(max_chars + 1).removeprefix("\ufeff")
    kept = text[:max_chars]
    return {"text": kept, "chars": len(kept), "truncated": len(text) > max_chars, "encoding": found.encoding}


@tool(name="file.write", effect="keyed", risk="workspace", timeout=30)
def write_file(
    workspace: Workspace,
    path: Annotated[str, Field(description="relative name in the workspace, such as report.md")],
    parts: Annotated[list[Any], Field(description="text and values, joined without anything between them")],
    decimals: Annotated[int | None, Field(ge=0, le=15, description="digits after the point of numbers")] = None,
) -> dict[str, Any]:
    """Write a text file into the workspace from parts: text stays as it is, numbers get `decimals` digits."""
    data = "".join(_text(part, decimals) for part in parts).encode()
    if len(data) > _MAX_WRITE_BYTES:
        raise ToolError("too_large", f"'{path}' would have {len(data)} bytes, at most {_MAX_WRITE_BYTES} are allowed")
    workspace.write(path, data)
    return {"path": path, "size": len(data), "sha256": digest_bytes(data).removeprefix("sha256:")}


def _text(part: Any, decimals: int | None) -> str:
    """Render one part; lists and objects become JSON, so that nothing depends on Python's spelling."""
    if isinstance(part, str):
        return part
    if isinstance(part, float) and decimals is not None:
        return f"{part:.{decimals}f}"
    if part is None:
        return ""
    return canonical_bytes(part).decode()
