"""Files of a task: what a client attaches, and the manifest that any executor can materialise."""

from typing import Annotated

from pydantic import AfterValidator, Field

from raa_schemas.event import Part

MAX_NAME_CHARACTERS = 255


def workspace_name(name: str) -> str:
    """Accept a name inside a workspace: relative, no `.` or `..` parts, no control characters or backslashes."""
    parts = name.split("/")
    if len(name) > MAX_NAME_CHARACTERS or "\\" in name or not name.isprintable():
        raise ValueError(f"{name[:80]!r} is no file name: at most 255 printable characters without backslash")
    if any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{name!r} is no name inside the workspace: use a relative path without . and ..")
    return name


WorkspaceName = Annotated[str, AfterValidator(workspace_name)]


class Input(Part):
    """A file given with a task."""

    name: WorkspaceName = Field(description="name inside the workspace, unique per task, relative")
    uri: str | None = Field(None, description="`blob:sha256/<hex>`, or `file:<path>` below a configured input root")
    data: str | None = Field(None, max_length=65_536, description="the content itself as text, up to 64 KB")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="expected content hash, verified if given")
    size: int | None = Field(None, ge=0, description="bytes")
    media_type: str | None = Field(None, max_length=127, description="for example text/csv")


class Artifact(Part):
    """A file in the workspace of a task: a name for content-addressed bytes."""

    name: WorkspaceName = Field(description="path inside the workspace")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="content hash, 64 hexadecimal digits")
    size: int = Field(ge=0, description="bytes")
    media_type: str | None = Field(None, description="for example text/markdown")


class Source(Part):
    """What planning and memory know of an input from its first bytes."""

    name: str = Field(description="the input's name")
    sha256: str = Field(description="content hash, 64 hexadecimal digits")
    size: int = Field(ge=0, description="bytes")
    media_type: str | None = Field(None, description="for example text/csv")
    schema_hash: str | None = Field(
        None,
        alias="schema",
        serialization_alias="schema",
        description="`sch_…`: hash of normalised column names and delimiter",
    )
    format: str = Field("binary", description="delimited, json, jsonl, text, binary or empty")
    columns: list[str] = Field(default_factory=list, description="column names, if it is a table")
    delimiter: str | None = Field(None, description="the character between fields")
    head: list[str] = Field(default_factory=list, description="its first lines, as they are")
