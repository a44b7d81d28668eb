"""The files one step may read and write: names of the task's manifest, materialised in a folder of the step."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from raa_executor.tools.errors import ToolError

_MAX_NAME = 255


class Workspace:
    """Give a tool the files of the manifest by name, and collect what it writes.

    `folder` belongs to this step alone: written files go below `folder/out`, temporary ones below `folder/scratch`.
    `files` maps each name of the manifest to where its bytes lie; they are never changed in place.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        self._folder = folder
        self._files = dict(files)
        self._changed: dict[str, Path] = {}

    def names(self) -> list[str]:
        """Return the names that can be read now, sorted."""
        return sorted(self._files | self._changed)

    def path_of(self, name: str) -> Path:
        """Return where the bytes of `name` lie, for reading only.

        Raises:
            ToolError: `file_not_found`, with the names there are.
        """
        path = self._changed.get(name) or self._files.get(name)
        if path is None or not path.is_file():
            names = [known for known in self.names() if known != name]
            raise ToolError("file_not_found", _not_found(name, names), {"file": name, "names": names})
        return path

    def write(self, name: str, data: bytes) -> Path:
        """Write `data` under `name`, replacing what was there, and record the path as changed.

        Raises:
            ToolError: `bad_arguments`, when `name` is absolute or leaves the workspace.
        """
        path = self._folder / "out" / relative_name(name)
        if path.is_dir():
            raise ToolError("bad_arguments", f"'{name}' is a folder of the workspace; choose another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ToolError("bad_arguments", f"a part of '{name}' is a file already; choose another name") from None
        path.write_bytes(data)
        self._changed[name] = path
        return path

    def changed(self) -> dict[str, Path]:
        """Return the written names and where their bytes lie."""
        return dict(self._changed)

    def scratch(self) -> Path:
        """Return a folder for temporary files; it vanishes with the step."""
        folder = self._folder / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def relative_name(name: str) -> PurePosixPath:
    """Check that `name` is a relative path below the workspace, in its only spelling.

    Raises:
        ToolError: `bad_arguments`.
    """
    path = PurePosixPath(name)
    odd = not name.isprintable() or "\\" in name or len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME
    if odd or name in {"", "."} or path.is_absolute() or ".." in path.parts or str(path) != name:
        message = f"{name!r} is no name in the workspace; use a relative path such as 'report.md' or 'out/report.md'"
        raise ToolError("bad_arguments", message, {"path": name})
    return path


def _not_found(name: str, names: list[str]) -> str:
    if not names:
        return f"the workspace has no file '{name}': it is empty; attach the file to the task"
    near = get_close_matches(name, names, n=1)
    remedy = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(repr(known) for known in names[:10])}"
    return f"the workspace has no file '{name}'; {remedy}"
