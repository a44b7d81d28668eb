"""An outcome that passes a convoy which waits for the bus: nothing is lost, repeated or decided on what was before."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus.port import Message
from raa_runtime.unit import Completed, Unit
from raa_schemas.task import TaskStatus
from tests.unit.runtime.floor import Count, Floor, until
from tests.unit.runtime.test_aggregates_in_trouble import document
from tests.unit.runtime.test_delivery import created, headers
from tests.unit.runtime.test_redrive import rejected

pytestmark = pytest.mark.anyio


class Open(Floor):
    """A task that goes on after its work, and counts it."""

    def on_worked(self, unit: Unit[Count], done: Completed) -> None:
        unit.state.goals = [*unit.state.goals, f"worked after {unit.state.rejected}"]
        unit.publish(TaskStatus(task_id=unit.task_id, state="reflecting"))


async def test_an_outcome_that_passes_is_seen_by_the_next_event_and_published_behind_the_older_entry(tmp_path: Path):
    floor, gate, away = Open(tmp_path, drain_seconds=1.0), asyncio.Event(), asyncio.Event()
    floor.effect = "once"
    floor.work = lambda _: gate.wait()
    async with floor.running() as service:
        await floor.publish([created("t1", "work"), created("t2")])
        await floor.eventually("task.status", 2)
        await service.caught_up()
        publish = floor.bus.publish

        async def late(messages: Sequence[Message]) -> Any:
            if any(message.topic == "task.status" for message in messages):
                await away.wait()
            return await publish(messages)

        floor.bus.publish = late
        await floor.publish([rejected("t1"), rejected("t2")])
        await until(lambda: _rejected(service))
        gate.set()
        await until(lambda: _worked(service))  # stored, although the bus is away
        away.set()
        floor.bus.publish = publish
        await service.caught_up()
        await floor.publish([rejected("t1", 2), rejected("t1", 1)])
        await service.caught_up()
        found = await document(service)
        assert found["state"] == {"goals": ["work", "worked after 1"], "rejected": 2}
        told = [record for record in await floor.records("task.status") if record.key == b"default/t1"]
        first = list(dict.fromkeys(headers(record)["ce_id"] for record in told))
        states = {
            headers(record)["ce_id"]: TaskStatus.model_validate_json(record.value or b"").state for record in told
        }
        assert [states[one] for one in first] == ["planning", "running", "reflecting", "running"]
        assert len(floor.calls) == 1


async def _rejected(service: Any) -> bool:
    return bool((await document(service))["state"]["rejected"] == 1)


async def _worked(service: Any) -> bool:
    return len((await document(service))["state"]["goals"]) == 2
