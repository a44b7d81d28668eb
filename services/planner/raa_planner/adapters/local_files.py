"""Files for `file:` inputs: only regular ones, only below the input roots, links followed before that is judged."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from raa_runtime.activities import ActivityFailed
from raa_schemas.errors import error


class RootedFiles:
    """The file system below some roots. Relative paths are looked for below each root in turn."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [root.expanduser().resolve() for root in roots]

    def locate(self, name: str, uri: str) -> Path:
        """Resolve `file:<path>` or `file://<percent-encoded path>`; whether a file outside exists is not told."""
        wanted = _path_of(uri)
        candidates = [wanted] if wanted.is_absolute() else [root / wanted for root in self._roots]
        inside = [path for path in map(_resolved, candidates) if path is not None and self._contains(path)]
        if not inside:
            raise ActivityFailed(
                error("input_outside_roots", f"input {name!r}: {wanted} lies outside the input roots", input=name)
            )
        found = next((path for path in inside if path.exists()), None)
        if found is None:
            raise ActivityFailed(error("input_missing", f"input {name!r}: there is no file {wanted}", input=name))
        if found.is_file() and not os.access(found, os.R_OK):
            raise ActivityFailed(error("input_missing", f"input {name!r}: {wanted} may not be read", input=name))
        if not found.is_file():
            raise ActivityFailed(error("input_invalid", f"input {name!r}: {wanted} is no regular file", input=name))
        return found

    def _contains(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)


def _path_of(uri: str) -> Path:
    if uri.startswith("file://"):
        return Path(unquote(uri.removeprefix("file://")))
    return Path(uri.removeprefix("file:"))


def _resolved(path: Path) -> Path | None:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name no file can have
        return None
