"""What fault tests share: one table of figures per run, and the deployments on real servers."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.report import LONG, Row, table, write

_ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not LONG:
            item.add_marker(pytest.mark.skip(reason="a long form; make faults runs it"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.section("faults", sep="-")
        terminalreporter.write_line(table(rows))
        if LONG:
            write(rows)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[Row]:
    """The rows of this run's table; a test appends what it showed."""
    rows: list[Row] = request.config.stash[_ROWS]
    return rows


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short path, for the sockets in it."""
    with TemporaryDirectory(prefix="raa-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
