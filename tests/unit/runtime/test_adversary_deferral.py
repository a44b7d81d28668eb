"""What waits in an aggregate: it ends in being handled, in a dead letter or in quarantine, whatever its size."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.errors import TransientError
from raa_runtime.unit import Unit
from tests.unit.runtime.floor import COUNT, Count, Floor, until
from tests.unit.runtime.test_aggregates_in_trouble import document
from tests.unit.runtime.test_delivery import created, headers
from tests.unit.runtime.test_redrive import rejected

pytestmark = pytest.mark.anyio


async def test_a_deferred_event_whose_letter_has_no_room_sets_the_aggregate_aside_and_ends_no_loop(tmp_path: Path):
    floor = Floor(tmp_path, defer_tries=2)
    calls = 0
    rejects = floor.on_rejected

    def count(unit: Unit[Count], event: Any) -> None:
        nonlocal calls
        calls += 1
        rejects(unit, event)

    floor.on_rejected = count  # type: ignore[method-assign]
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()

        def fill(unit: Unit[Count], _: None) -> None:
            unit.state.goals = ["x" * 998_000]

        await service.call(COUNT, "default/t1", fill, None)
        floor.fail_rejected = TransientError("away", retry_after=0.05)
        await floor.publish([rejected()])
        await until(lambda: _has_deferred(service))
        room = 1_000_000 - len(json.dumps(await document(service), separators=(",", ":")))
        assert 0 < room < 2_000, room
        [letter] = await floor.eventually("planner.dlq", 1)
        assert headers(letter)["dl_kind"] == "aggregate"
        assert (await document(service))["quarantined"]
        tried = calls
        await asyncio.sleep(1.2)
        assert calls == tried
        assert len((await document(service))["deferred"]) == 1


async def _has_deferred(service: Any) -> bool:
    return bool((await document(service))["deferred"])
