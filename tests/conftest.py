"""What every test stands on: no network, no settings of this machine, and real backends where they are present."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.backends.catalogue import BACKENDS
from tests.backends.process import BackendMissing
from tests.network import forbid_network

_MISSING = pytest.StashKey[dict[str, str]]()

# The machine may be busy with a broker beside us: what a property holds is tested, not how fast it is checked. CI tries
# the same examples each time, so that a change fails for what it changed; everybody else's runs look for new ones.
_BUSY = [HealthCheck.too_slow]
settings.register_profile("laptop", deadline=None, max_examples=50, suppress_health_check=_BUSY)
settings.register_profile(
    "ci", deadline=None, max_examples=200, derandomize=True, print_blob=True, suppress_health_check=_BUSY
)
settings.load_profile("ci" if os.environ.get("CI") else "laptop")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MISSING] = {}
    unknown = _required() - BACKENDS.keys()
    if unknown:
        message = f"RAA_TEST_REQUIRE names {sorted(unknown)}; it knows {', '.join(BACKENDS)}"
        raise pytest.UsageError(message)
    for name in list(os.environ):
        # a test means what it says, whatever this machine is set up to run
        if name.startswith(("OPENAI_", "RAA_")) and not name.startswith(("RAA_TEST_", "RAA_BACKENDS", "RAA_FAULTS")):
            del os.environ[name]
    forbid_network(sys)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, why in config.stash[_MISSING].items():
        terminalreporter.write_line(f"tests on {name} were skipped: {why}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def logs_end_with_their_test() -> Iterator[None]:
    """A command that sets up logging in this process writes to the output pytest captures, which is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A data folder with a short path: the socket in it may have 107 characters, which tmp_path alone can exceed."""
    folder = Path(mkdtemp(prefix="raa-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def deployment() -> str:
    """A deployment id of its own, so that tests share a broker and never meet."""
    return f"t{uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """Bootstrap address of a real broker."""
    yield from _backend("kafka", request.config)


@pytest.fixture(scope="session")
def mongo(request: pytest.FixtureRequest) -> Iterator[str]:
    """Connection URI of a server that speaks MongoDB's protocol."""
    yield from _backend("mongo", request.config)


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a Redis server."""
    yield from _backend("redis", request.config)


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> Iterator[str]:
    """Endpoint of an S3 server that holds the bucket and takes any credentials."""
    yield from _backend("s3", request.config)


@pytest.fixture(scope="session")
def toxiproxy(request: pytest.FixtureRequest) -> Iterator[str]:
    """HTTP interface of a fault proxy; tests.backends.toxiproxy.Proxy speaks it."""
    yield from _backend("toxiproxy", request.config)


def _required() -> set[str]:
    return set(filter(None, os.environ.get("RAA_TEST_REQUIRE", "").replace(" ", "").split(",")))


def _backend(name: str, config: pytest.Config) -> Iterator[str]:
    running = os.environ.get(f"RAA_TEST_{name.upper()}")
    if running:
        yield running
        return
    folder = Path(mkdtemp(prefix=f"raa-{name}-"))
    try:
        with ExitStack() as stack:
            try:
                server = stack.enter_context(BACKENDS[name](folder))
            except BackendMissing as missing:
                why = str(missing)
            else:
                yield server.address
                return
        _fail_or_skip(name, why, config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fail_or_skip(name: str, why: str, config: pytest.Config) -> None:
    if name in _required():
        pytest.fail(f"RAA_TEST_REQUIRE asks for {name}, but there is {why}", pytrace=False)
    config.stash[_MISSING][name] = why
    pytest.skip(f"{name}: {why}")
