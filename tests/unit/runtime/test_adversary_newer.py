"""What a newer release has written, after a rollback: it waits, and nothing else does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_json

from raa_runtime import wakes
from raa_runtime.state.port import Write
from raa_runtime.unit import Unit
from tests.unit.runtime.floor import COUNT, Count, Floor, until
from tests.unit.runtime.test_aggregates_in_trouble import ME, document, rewrite
from tests.unit.runtime.test_delivery import created
from tests.unit.runtime.test_redrive import letters, order, outcomes, rejected

pytestmark = pytest.mark.anyio


async def make_newer(service: Any, task: str) -> None:
    found = await service._db.find(ME, "count", f"default/{task}")
    changed = found | {"state_schema": 2, "wake_at": 1.0, "timers": {"end": 1.0}, "version": found["version"] + 1,
                       "write_id": "another/1"}  # fmt: skip
    assert await service._db.commit([Write("count", changed, to_json(changed), found["version"])]) == ["stored"]


async def test_many_that_only_a_newer_release_can_wake_hide_nothing_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wakes, "_PAGE", 3)
    floor, newer = Floor(tmp_path), [f"n{number}" for number in range(8)]
    async with floor.running() as service:
        await floor.publish([created(task) for task in [*newer, "t1"]])
        await floor.eventually("task.status", 9)
        await service.caught_up()
        for task in newer:
            await make_newer(service, task)
        await until(lambda: _are_left(service, newer))

        def hurry(unit: Unit[Count], _: None) -> None:
            unit.set_timer("end", datetime.now(UTC) - timedelta(seconds=1))

        await service.call(COUNT, "default/t1", hurry, None)
        await floor.eventually("task.done", 1)


async def test_a_late_event_does_not_wait_in_a_newer_tombstone_and_its_redrive_is_refused(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        floor.fail_rejected = ValueError("bug")
        await floor.publish([rejected()])
        [letter] = await letters(floor, 1)
        await service.caught_up()
        await rewrite(service, state_schema=2, closed=True, tombstone=True, wake_at=4e9, timers={})
        await floor.publish([rejected(number=2)])
        await order(floor, letter)
        [told] = await outcomes(floor, 1)
        assert told.outcome == "refused"
        await until(lambda: _nothing_is_deferred(service))


async def _are_left(service: Any, tasks: list[str]) -> bool:
    found = [await service._db.find(ME, "count", f"default/{task}") for task in tasks]
    return all(one["partition"] is None for one in found)


async def _nothing_is_deferred(service: Any) -> bool:
    return not (await document(service))["deferred"]
