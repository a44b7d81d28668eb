"""Looks at what a person attaches, or forgot to attach, so that a mistake shows before a task fails of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from raa_runtime.tabular import read_head, sniff

_FILE_NAME: Final = re.compile(r"[\w./\\-]*\w\.[A-Za-z]\w{0,4}(?![\w.])")
_READ_NOT_WRITTEN: Final = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".xlsx", ".parquet"})


def forgotten_among(goal: str, inputs: Sequence[Path]) -> list[str]:
    """Name the files that a goal speaks of and that are not attached: those that exist, and tables."""
    attached = {path.name for path in inputs}
    named = dict.fromkeys(found[0] for found in _FILE_NAME.finditer(goal))
    return [name for name in named if Path(name).name not in attached and _may_be_input(Path(name))]


def _may_be_input(path: Path) -> bool:
    try:
        return path.is_file() or path.suffix.lower() in _READ_NOT_WRITTEN
    except OSError:
        return False


def doubt(path: Path) -> str:
    """Say what is wrong with a file that is nearly a table, or whose columns cannot be told apart; else nothing."""
    try:
        found = sniff(read_head(path))
    except OSError:
        return ""  # attaching it said so
    if found.problem:
        return f"nearly a table, but {found.problem}"
    if found.repeated:
        return f"several columns are called {found.repeated[0]!r}; a task that needs it fails until they are renamed"
    return ""
