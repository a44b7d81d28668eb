"""The deployments that end-to-end tests share; each test uses tenants or task ids of its own."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from raa_client.observed import Observed
from tests.e2e.house import House, all_in_one, apart, running
from tests.e2e.story import Stories, six_runs


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder with a short path, for the sockets in it."""
    made = Path(mkdtemp(prefix="raa-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def together(folder: Path) -> Iterator[House]:
    """All services in one process, on the embedded bus and SQLite."""
    with running(all_in_one(folder / "one", input_roots=str(folder))) as house:
        yield house


@pytest.fixture(scope="session")
def separate(folder: Path, kafka: str, mongo: str, redis_url: str) -> Iterator[House]:
    """Each service in a process of its own, planner and executor twice, on Kafka, MongoDB's protocol and Redis."""
    house = apart(
        folder / "many", kafka=kafka, mongo=mongo, redis_url=redis_url, deployment="e2e", instances={"planner": 2}
    )
    with running(house):
        yield house


@pytest.fixture(scope="session", params=["together", "separate"])
def house(request: pytest.FixtureRequest) -> House:
    """Each kind of deployment."""
    found: House = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def stories() -> Stories:
    """Give the events of the six runs of a deployment, which are done once."""
    known: dict[str, dict[str, list[Observed]]] = {}

    def of(house: House) -> dict[str, list[Observed]]:
        if house.settings.bus not in known:
            known[house.settings.bus] = asyncio.run(six_runs(house))
        return known[house.settings.bus]

    return of
