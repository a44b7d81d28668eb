"""A process whose clock is wrong says so, takes nothing, fires no timer, and goes on when the clock is set."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raa_runtime import timekeeping
from raa_runtime.errors import DependencyUnavailable
from tests.unit.runtime.floor import Floor, until
from tests.unit.runtime.test_delivery import created

pytestmark = pytest.mark.anyio


async def _two_hours_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=2)


async def test_a_process_with_a_wrong_clock_takes_nothing_until_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(timekeeping, "LOOK_SECONDS", 0.02)
    floor = Floor(tmp_path)
    async with floor.running() as service:
        store: Any = service._db
        right = store.now
        store.now = _two_hours_ago

        async def held() -> bool:
            return service._time.wrong and service._consumer._paused

        await until(held)
        assert "differ by 7200" in (await service.missing())["store"]
        await floor.publish([created()])
        for _ in range(5):
            await floor.bus.appended.wait(0.02)
        assert (service._consumer.in_flight, service._consumer.settled) == (0, 0)
        store.now = right
        await floor.eventually("task.status", 1)


async def test_a_process_with_a_wrong_clock_does_not_join(tmp_path: Path):
    floor = Floor(tmp_path)
    await floor.bus.start()
    service = floor.build()
    store: Any = service._db
    store.now = _two_hours_ago
    with pytest.raises(DependencyUnavailable, match="NTP"):
        await service.start()
    assert not service._consumer.belongs
    await service.drain()
    await floor.bus.stop()
