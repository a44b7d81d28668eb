"""Every event says which event led to it, also when time, a tool or a crash lay in between."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.testing import message_of
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated, TaskStatus
from tests.unit.runtime.floor import COUNT, Floor
from tests.unit.runtime.test_delivery import crash, headers

WORK = message_of(TaskCreated(task_id="t1", goal="work"), event_id="the-task")
LATER = message_of(PlanRejected(task_id="t1", plan_version=1, findings=[]), event_id="later")


async def cause_of_the_end(floor: Floor) -> str | None:
    (done,) = await floor.eventually("task.done", 1)
    return headers(done).get("ce_causationid")


@pytest.mark.anyio
async def test_what_an_activity_led_to_is_caused_by_the_event_that_started_it(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    gate = asyncio.Event()
    floor.work = lambda _: gate.wait()
    async with floor.running():
        await floor.publish([WORK])
        await floor.eventually("task.status", 1)
        await floor.publish([LATER])
        await floor.eventually("task.status", 2)
        gate.set()
        assert await cause_of_the_end(floor) == "the-task"


@pytest.mark.anyio
@pytest.mark.parametrize("effect", ["read", "once"])
async def test_the_cause_of_an_activity_survives_the_process_that_ran_it(tmp_path: Path, effect: str) -> None:
    before = Floor(tmp_path)
    before.effect, before.work = effect, lambda _: asyncio.Event().wait()
    await before.bus.start()
    service = before.build()
    await service.start()
    await before.publish([WORK])
    await before.eventually("task.status", 1)
    await before.publish([LATER])
    await before.eventually("task.status", 2)
    await crash(service)
    await before.bus.stop()
    after = Floor(tmp_path)
    async with after.running():
        assert await cause_of_the_end(after) == "the-task"


@pytest.mark.anyio
async def test_what_nobody_but_a_clock_or_a_caller_caused_follows_the_newest_event(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([message_of(TaskCreated(task_id="t1", goal="count"), event_id="the-task"), LATER])
        await floor.eventually("task.status", 2)

        def speak(unit: Any, _: None) -> None:
            unit.publish(TaskStatus(task_id="t1", state="running"))
            unit.set_timer("end", unit.now)

        await service.call(COUNT, "default/t1", speak, None)
        told = await floor.eventually("task.status", 3)
        assert headers(told[-1])["ce_causationid"] == "later"
        assert await cause_of_the_end(floor) == "later"
