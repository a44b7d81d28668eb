"""How long what has ended is remembered, and what goes with it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.clock import SystemClock
from raa_runtime.errors import DependencyUnavailable, Misconfigured
from raa_runtime.remembrance import Oblivion, contradictions, too_short_for_blobs
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.port import KindSpec
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.telemetry import logger
from tests.contract.test_store import write
from tests.unit.runtime.floor import COUNT, Floor, until
from tests.unit.runtime.test_aggregates_in_trouble import ME, document
from tests.unit.runtime.test_delivery import created, headers

pytestmark = pytest.mark.anyio


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink and look without waiting."""
    monkeypatch.setattr("raa_runtime.unit_of_work.SHRINK_SECONDS", 0.05)
    monkeypatch.setattr("raa_runtime.remembrance.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("raa_runtime.remembrance.MARGIN_SECONDS", 0.0)


async def _tombstone(service: Service) -> bool:
    return bool((await document(service))["tombstone"])


async def _gone(service: Service) -> bool:
    return await service._db.find(ME, "count", "default/t1") is None


async def test_a_tombstone_wakes_once_more_when_it_may_go(tmp_path: Path, soon: None):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.done", 1)
        await until(lambda: _tombstone(service))
        wake_at = (await document(service))["wake_at"]
        days = (wake_at - datetime.now(UTC).timestamp()) / 86_400
        assert days == pytest.approx(8, abs=0.01)
        assert await service._db.due("count", wake_at + 1, None, 10) == []


async def test_what_has_ended_is_forgotten_and_an_old_record_of_it_begins_nothing(tmp_path: Path, soon: None):
    floor = Floor(tmp_path, horizon_seconds=0.2, tombstone_seconds=0.5)
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.done", 1)
        await until(lambda: _gone(service))
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    places = await bus.committed("planner", ["task.created"])
    bus.commit("planner", dict.fromkeys(places, 0))  # as an operator who resets the group's offsets
    await bus.stop()
    again = Floor(tmp_path, horizon_seconds=0.2, tombstone_seconds=0.5)
    async with again.running() as service:
        [letter] = await again.eventually("planner.dlq", 1)
        assert headers(letter)["dl_error_class"] == "TooOld"
        assert await _gone(service)
        assert len(await again.records("task.done")) == 1


async def test_while_what_belongs_to_it_cannot_be_deleted_a_tombstone_stays(tmp_path: Path, soon: None):
    floor = Floor(tmp_path, horizon_seconds=0.2, tombstone_seconds=0.3)
    away, forgotten = [True], []

    async def forget(kind: Any, aggregate: str) -> None:
        forgotten.append(aggregate)
        if away:
            raise DependencyUnavailable("the blobs are away")

    async with floor.running() as service:
        assert service._poller.oblivion is not None
        service._poller.oblivion.forget = forget
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.done", 1)
        await until(lambda: _true(len(forgotten) > 1))
        assert await _tombstone(service)
        away.clear()
        await until(lambda: _gone(service))
    assert set(forgotten) == {"default/t1"}


async def _true(value: object) -> bool:
    return bool(value)


async def test_thousands_are_forgotten_in_one_sweep(tmp_path: Path, soon: None):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created(f"t{number}", "work") for number in range(600)])
        await floor.eventually("task.done", 600)

        async def none_left() -> bool:
            return await service._db.due("count", 1e12, None, 10) == []

        await until(none_left)
        clock: Any = _Later(service.platform.clock)
        await Oblivion(service._db, clock, service.log).sweep([COUNT], None)
        assert await service._db.expired("count", 1e12, None, 10) == []
        assert await _gone(service)


async def test_those_that_cannot_be_forgotten_hold_back_none_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raa_runtime.remembrance._PAGE", 4)
    store = SqliteStore(tmp_path / "count.sqlite")
    await store.start([KindSpec("count")])
    await store.commit(
        [write(f"acme/{number}", kind="count", wake_at=float(number), tombstone=True) for number in range(20)]
    )

    async def forget(_: Any, aggregate: str) -> None:
        if aggregate in {f"acme/{number}" for number in range(6)}:
            raise ValueError("its files have a name nobody can delete")

    oblivion = Oblivion(store, SystemClock(), logger("count"), forget)
    for _ in range(3):
        oblivion._looked_at = float("-inf")
        await oblivion.sweep([COUNT], None)
    assert await store.expired("count", 100.0, None, 50) == [f"acme/{number}" for number in range(6)]
    await store.close()


class _Later:
    """A clock of ten days from now."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now().timestamp() + 10 * 86_400, UTC)

    def monotonic(self) -> float:
        return float(self._clock.monotonic())


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"tombstone_seconds": 7 * 86_400}, "RAA_TOMBSTONE_SECONDS"),
        ({"horizon_seconds": 8 * 86_400, "tombstone_seconds": 9 * 86_400}, "RAA_HORIZON_SECONDS"),
    ],
)
def test_times_that_would_lose_or_repeat_work_are_refused_at_the_start(
    tmp_path: Path, overrides: dict[str, Any], named: str
):
    with pytest.raises(Misconfigured, match=named):
        Floor(tmp_path, **overrides).build()


def test_the_times_of_the_defaults_fit_together():
    assert contradictions(ServiceSettings()) == []
    assert too_short_for_blobs(31 * 86_400) is None
    assert "RAA_BLOB_SECONDS" in (too_short_for_blobs(30 * 86_400) or "")
