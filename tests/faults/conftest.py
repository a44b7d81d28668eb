"""What fault tests share: one table of figures per run, and the deployments on real servers."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from tests.faults.exposed import Exposed, exposed
from tests.faults.report import KEPT, LONG, Row, table, write
from tests.faults.trial import Trial, separate

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
        if KEPT:
            write(rows)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[Row]:
    """The rows of this run's table; a test appends what it showed."""
    rows: list[Row] = request.config.stash[_ROWS]
    return rows


@pytest.fixture(scope="session")
def servers(kafka: str, mongo: str, redis_url: str) -> Iterator[Trial]:
    """Each service in a process of its own on Kafka, MongoDB's protocol and Redis; planner and executor twice."""
    with (
        TemporaryDirectory(prefix="raa-", ignore_cleanup_errors=True) as folder,
        separate(
            Path(folder), deployment="faults", kafka=kafka, mongo=mongo, redis_url=redis_url, instances={"planner": 2}
        ) as trial,
    ):
        trial.house.start()
        yield trial


@pytest.fixture
def on_servers(servers: Trial) -> Trial:
    """A trial with a tenant of its own on the shared deployment."""
    return servers.of_tenant(f"t{uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def proxied(kafka: str, mongo: str, redis_url: str, toxiproxy: str) -> Iterator[Exposed]:
    """The same on servers of its own, which may be hurt; those of the session only say that this machine has them."""
    assert kafka
    assert mongo
    assert redis_url
    with (
        TemporaryDirectory(prefix="raa-", ignore_cleanup_errors=True) as folder,
        exposed(Path(folder), toxiproxy) as all_of,
    ):
        yield all_of


@pytest.fixture
def on_proxied(proxied: Exposed) -> Exposed:
    """A tenant of its own on the deployment whose servers may be hurt."""
    return proxied.of_tenant(f"t{uuid4().hex[:8]}")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short path, for the sockets in it."""
    with TemporaryDirectory(prefix="raa-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
