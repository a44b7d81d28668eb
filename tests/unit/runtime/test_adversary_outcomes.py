"""Outcomes that an aggregate could not take at once: handed over once, never worked for again, never after its end."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.scope import TenantScope
from raa_runtime.state.aggregate import Activity, Aggregate
from raa_runtime.unit import Completed, Received, Unit
from raa_runtime.wakes import take_over
from raa_schemas.ids import AggregateId, TenantId
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated, TaskDone
from tests.unit.runtime.floor import COUNT, Count, Floor, until
from tests.unit.runtime.test_aggregates_in_trouble import _kept, document, rewrite
from tests.unit.runtime.test_delivery import created
from tests.unit.runtime.test_redrive import letters, order, rejected

pytestmark = pytest.mark.anyio
ME = TenantScope(TenantId("default"))


class Pair(Floor):
    """A task with two activities, which ends when both have."""

    def on_created(self, unit: Unit[Count], event: Received[TaskCreated]) -> None:
        super().on_created(unit, event)
        super().on_created(unit, event)

    def on_worked(self, unit: Unit[Count], done: Completed) -> None:
        if self.fail_worked:
            raise self.fail_worked
        unit.state.rejected += done.outcome == "done"
        if not unit.activities:
            unit.publish(TaskDone(task_id=unit.task_id, outcome="succeeded", result=unit.state.rejected))
            unit.close()


async def test_what_is_kept_on_a_newer_state_is_not_done_again_by_the_process_that_kept_it(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.effect = "once"
    gate = asyncio.Event()
    floor.work = lambda _: gate.wait()
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state_schema=2)
        gate.set()
        await until(lambda: _kept(service))
        await floor.publish([rejected()])
        await service.caught_up()
        await service._poller.sweep()
        await until(lambda: _nothing_waits(service))
        assert len(floor.calls) == 1


async def test_a_huge_outcome_on_a_newer_state_is_kept_as_one_that_was_too_large(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.effect = "once"
    gate = asyncio.Event()

    async def work(_: Any) -> str:
        await gate.wait()
        return "x" * 1_200_000

    floor.work = work
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state_schema=2)
        gate.set()
        await until(lambda: _kept(service))
        [activity] = (await document(service))["activities"].values()
        assert (activity["kept"]["outcome"], activity["kept"]["error"]["code"]) == ("failed", "too_large")
        await floor.publish([rejected()])
        await service.caught_up()
        await until(lambda: _nothing_waits(service))
        assert len(floor.calls) == 1


async def test_an_outcome_that_cannot_even_be_set_aside_is_not_worked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    floor = Floor(tmp_path)
    floor.effect, floor.fail_worked = "once", RuntimeError("bug")
    async with floor.running() as service:

        def fails(*_: Any, **__: Any) -> None:
            raise RuntimeError("another bug")

        monkeypatch.setattr(type(service._dispatcher.burial), "quarantine", fails)
        await floor.publish([created("t1", "work")])
        await until(lambda: _ran(floor, service))
        await floor.publish([rejected()])
        await service.caught_up()
        await until(lambda: _nothing_waits(service))
        assert len(floor.calls) == 1


async def _ran(floor: Floor, service: Any) -> bool:
    return bool(floor.calls) and not len(service._activities) and not len(service._lanes)


async def _nothing_waits(service: Any) -> bool:
    await service._lanes.idle()
    return not service._dispatcher.waking


@pytest.mark.parametrize("effect", ["once", "keyed"])
async def test_both_outcomes_that_fail_are_kept_and_handed_over_once(tmp_path: Path, effect: str):
    floor = Pair(tmp_path)
    floor.effect, floor.fail_worked = effect, RuntimeError("bug")
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        [letter] = await letters(floor, 1)
        await until(lambda: _settled(service))
        floor.fail_worked = None
        await order(floor, letter)
        [done] = await floor.eventually("task.done", 1)
        assert json.loads(done.value or b"")["result"] == 2
        assert len(floor.calls) == 2, "what has an outcome is never done again"


async def _settled(service: Any) -> bool:
    return not service._activities._held


async def test_an_aggregate_that_ends_with_the_first_of_two_kept_outcomes_leaves_quarantine(tmp_path: Path):
    class Hasty(Pair):
        on_worked = Floor.on_worked

    floor = Hasty(tmp_path)
    floor.effect, floor.fail_worked = "once", RuntimeError("bug")
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        [letter] = await letters(floor, 1)
        await until(lambda: _settled(service))
        floor.fail_worked = None
        await order(floor, letter)
        await floor.eventually("task.done", 1)
        await until(lambda: _released(service))
        assert len(await floor.records("planner.dlq")) == 1
        assert len(await floor.records("task.done")) == 1


async def _released(service: Any) -> bool:
    return not (await document(service))["quarantined"]


def running(name: str, owner: str, **more: Any) -> Activity:
    return Activity(name, "work", {}, name, "read", owner, 1, datetime.now(UTC).timestamp() + 60, 60.0, **more)


def unit_with(*activities: Activity) -> Unit[Count]:
    aggregate = Aggregate(AggregateId("acme/t"), "acme", "t", Count(), version=1)
    aggregate.activities = {activity.id: activity for activity in activities}
    return Unit(COUNT, aggregate, datetime.now(UTC), "planner", "", "me:1:a")


@pytest.mark.parametrize("second", [running("b", "dead:1:a", stopping=True), running("b", "me:1:a", attempt=9),
                                    running("b", "dead:1:a")])  # fmt: skip
def test_what_is_taken_over_after_the_end_decides_nothing_more(second: Activity):
    handed: list[str] = []

    def ends(unit: Unit[Count], done: Completed) -> None:
        assert not unit.closed, "an outcome after the end decides nothing"
        handed.append(done.activity_id)
        unit.close()

    unit = unit_with(running("a", "dead:1:a", stopping=True), second)
    take_over(unit, {"dead:1:a"}, {"work": ends})
    assert handed == ["a"]
    assert not [activity for activity in unit.activities.values() if activity.owner == "me:1:a"]


async def test_what_waits_in_an_ended_aggregate_wakes_nobody_for_the_work_of_the_dead(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        found = await document(service)
        left = {"id": "w", "kind": "work", "args": {"goal": "x"}, "key": "k", "effect": "read",
                "owner": "planner@gone:1:x", "epoch": 1, "deadline": 1.0, "timeout_seconds": 1.0}  # fmt: skip
        event = rejected()
        waiting = {"topic": event.topic, "partition": 0, "offset": 0, "timestamp": datetime.now(UTC).timestamp(),
                   "key": event.key.decode(), "headers": [(name, raw.decode()) for name, raw in event.headers],
                   "value": event.value.decode(), "event_id": "rejected-t1-1", "tries": 1, "due": 1.0,
                   "reason": "", "first_failed": 1.0}  # fmt: skip
        assert found["state"]["rejected"] == 0
        await rewrite(service, closed=True, timers={}, activities={"w": left}, deferred=[waiting], wake_at=1.0)
        await floor.eventually("task.status", 2)  # the deferred event was handled
        assert await floor.records("task.done") == []
    assert PlanRejected.event_type() == event.topic
