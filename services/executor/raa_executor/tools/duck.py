"""Opens DuckDB as a sandbox that can read the given files and nothing else.

DuckDB is imported at the first table call, so that an idle service stays small. Only SQL written in this package runs
in it: `COPY … TO` an allowed file and huge intermediate strings are holes that forbid SQL from anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raa_executor.tools.errors import ToolError

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "256MB"


class Sandbox:
    """One locked connection; `query` binds every value."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement of ours and fetch its rows.

        Raises:
            ToolError: `too_large` when the memory limit is reached, `tool_timeout` when the time is over.
            duckdb.Error: anything else, such as a file that does not parse.
        """
        import duckdb  # noqa: PLC0415

        try:
            return self._connection.execute(sql, list(values)).fetchall()
        except duckdb.OutOfMemoryException as full:
            raise ToolError("too_large", f"the query needs more than {MEMORY_LIMIT}; ask for less at once") from full
        except duckdb.InterruptException as late:
            raise ToolError("tool_timeout", "the query ran out of time; ask for fewer columns or rows") from late


@contextmanager
def open_sandbox(files: Sequence[Path], seconds: float) -> Iterator[Sandbox]:
    """Open a connection that reads `files` only and runs each query for at most `seconds`.

    The order of the settings matters: the allowed paths before external access is closed, the lock last.
    """
    import duckdb  # noqa: PLC0415

    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "threads": "1",
    }
    paths = ", ".join(_literal(str(path)) for path in files)
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute(
            f"SET allowed_paths = [{paths}]; SET memory_limit = '{MEMORY_LIMIT}'; SET threads = 1;"
            f"SET temp_directory = ''; SET max_execution_time = {max(1, int(seconds * 1000))};"
            "SET enable_progress_bar = false;"  # it would write to the standard output of a service
            "SET python_enable_replacements = false; SET enable_external_access = false;"
            "SET lock_configuration = true"
        )
        yield Sandbox(connection)


def _literal(text: str) -> str:
    """Quote text for the one statement that cannot take bound values."""
    return "'" + text.replace("'", "''") + "'"
