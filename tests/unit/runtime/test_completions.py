"""Outcomes of activities, and wakes with nothing to do: many of a tick cost one commit."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.away import Away
from raa_runtime.burial import Burial
from raa_runtime.completions import Completions
from raa_runtime.convoy import Job, run_together
from raa_runtime.lanes import Lanes
from raa_runtime.redrive import GroupIntake
from raa_runtime.state.aggregate import Activity, Aggregate, State
from raa_runtime.state.port import KindSpec
from raa_runtime.unit import Completed, Unit
from raa_runtime.unit_of_work import Address
from raa_runtime.wakes import Shrinking, needs_no_handler
from raa_schemas.ids import AggregateId, TenantId
from raa_schemas.task import TaskStatus
from raa_schemas.tenants import IntakePolicy
from tests.unit.runtime.test_convoys import Counted, Desk, at, job

pytestmark = pytest.mark.anyio


@pytest.fixture
async def desk(tmp_path: Path) -> Any:
    made = Desk(tmp_path)
    await made.store.start([KindSpec("counted")])
    yield made
    await made.store.close()


def begin(unit: Unit[Counted]) -> None:
    unit.start("look", {}, timeout=timedelta(seconds=60))


def ended(unit: Unit[Counted], done: Completed) -> None:
    unit.state.seen.append(str(done.result))
    unit.publish(TaskStatus(task_id=unit.task_id, state="running"))


class Commits:
    """Count the commits of a desk's store, and what each held."""

    def __init__(self, desk: Desk) -> None:
        self.sizes: list[int] = []
        self._commit = desk.store.commit
        store: Any = desk.store
        store.commit = self

    async def __call__(self, writes: Sequence[Any]) -> Any:
        self.sizes.append(len(writes))
        return await self._commit(writes)


class Outcomes:
    """Activities of a desk that have been started, and the way of their outcomes."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.lanes = desk, Lanes()
        self.settled: list[str] = []
        self.came = asyncio.Event()
        burial = Burial("counted", desk.work, GroupIntake("", IntakePolicy(), "counted"), None, lambda *_: None)
        self.convoy = Completions(desk.work, Away(desk.work.log), burial, {"look": ended}, 3, self._settled)

    def _settled(self, _: str, aggregate: str, *__: object) -> None:
        self.settled.append(aggregate)
        self.came.set()

    async def start(self, tasks: Sequence[str]) -> list[tuple[Address, Completed]]:
        units = await run_together(self.desk.work, [Job(at(task), begin, "command") for task in tasks])
        return [(at(task), _outcome(unit)) for task, unit in zip(tasks, units, strict=True) if unit]

    async def deliver(self, items: Sequence[tuple[Address, Completed]]) -> None:
        for item in items:
            self.lanes.join(f"counted:{item[0].id}", self.convoy, item, None, passing=True)
        await self.lanes.idle()


def _outcome(unit: Unit[Any]) -> Completed:
    [activity] = unit.aggregate.activities.values()
    return Completed(
        activity.id, activity.kind, {}, activity.key, activity.attempt, activity.epoch, "done", "found", None, 1
    )


async def test_outcomes_of_one_tick_are_stored_by_one_commit_and_published_by_one_call(desk: Desk):
    outcomes = Outcomes(desk)
    items = await outcomes.start(["t0", "t1", "t2"])
    commits = Commits(desk)
    await outcomes.deliver(items)
    assert (commits.sizes, desk.wire.calls) == ([3], 1)
    assert outcomes.settled == ["acme/t0", "acme/t1", "acme/t2"]
    document = await desk.document("t1")
    assert (document["state"], document["activities"]) == ({"seen": ["found"]}, {})


async def test_a_fenced_outcome_is_settled_and_changes_nothing_but_takes_nobody_with_it(desk: Desk):
    outcomes = Outcomes(desk)
    [(where, old), other] = await outcomes.start(["t0", "t1"])

    def take_over(unit: Unit[Counted]) -> None:
        [activity] = unit.aggregate.activities.values()
        activity.epoch += 1

    await desk.work.run(where, take_over, "wake")
    await outcomes.deliver([(where, old), other])
    assert sorted(outcomes.settled) == ["acme/t0", "acme/t1"]
    assert desk.wire.sent == ["acme/t1"]
    assert (await desk.document("t0"))["state"] == {"seen": []}


async def test_an_outcome_passes_what_waits_for_the_bus_in_its_lane(desk: Desk):
    outcomes = Outcomes(desk)
    [item] = await outcomes.start(["t0"])
    back = asyncio.Event()

    async def waiting() -> None:
        outcomes.lanes.let_pass(asyncio.current_task())
        await back.wait()
        await outcomes.lanes.go_on()

    outcomes.lanes.put("counted:acme/t0", waiting)
    outcomes.lanes.join("counted:acme/t0", outcomes.convoy, item, None, passing=True)
    async with asyncio.timeout(5):
        await outcomes.came.wait()
    assert outcomes.settled == ["acme/t0"]
    back.set()
    await outcomes.lanes.idle()


def _shrinking(desk: Desk, woken: list[str]) -> Shrinking:
    async def wake(where: Address) -> None:
        woken.append(where.id)

    return Shrinking(desk.work, lambda unit: setattr(unit.aggregate, "wake_tries", 1), wake, set())


async def test_wakes_that_find_all_published_cost_one_commit_for_all(desk: Desk):
    await run_together(desk.work, [job("t0", 1), job("t1", 1)])
    woken: list[str] = []
    shrinking, commits = _shrinking(desk, woken), Commits(desk)
    assert shrinking.fits("counted", "acme/t0")
    assert await shrinking.together([at("t0"), at("t1")]) == [True, True]
    assert (commits.sizes, woken) == ([2], [])
    document = await desk.document("t0")
    assert (document["wake_at"], document["outbox"], document.get("wake_tries", 0)) == (None, [], 0)


def _aggregate(**more: Any) -> Aggregate[State]:
    return Aggregate(AggregateId("acme/t"), TenantId("acme"), "t", Counted(), **more)


LOOKING = Activity("a", "look", {}, "key", "read", "counted:1:one", 1, 10.0, 60.0)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        ({"timers": {"later": 6.0}}, True),
        ({"timers": {"now": 5.0}}, False),
        ({"wake_tries": 1}, False),
        ({"activities": {"a": LOOKING}}, False),
        ({"quarantined": True}, False),
        ({"closed": True, "wake_tries": 1}, True),
    ],
)
def test_only_a_wake_without_anything_that_could_fail_is_plain(more: dict[str, Any], expected: bool):
    assert needs_no_handler(_aggregate(**more), 5.0) is expected
