"""Intents, leases and what a crash between intent and outcome may do."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.activities import ActivityFailed
from raa_runtime.errors import LeaseLost, TransientError
from raa_runtime.liveness import Liveness
from raa_runtime.scope import TenantScope
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.testing import message_of, unit_for
from raa_runtime.unit import Completed, Unit
from raa_runtime.wakes import take_over
from raa_schemas.errors import error
from raa_schemas.ids import TenantId
from raa_schemas.task import TaskCreated
from tests.unit.runtime.floor import COUNT, Count, Floor, until
from tests.unit.runtime.test_delivery import crash

ME = TenantScope(TenantId("default"))
WORK = [message_of(TaskCreated(task_id="t1", goal="work"))]


async def result_of(floor: Floor) -> Any:
    (done,) = await floor.eventually("task.done", 1)
    return json.loads(done.value or b"")["result"]


@pytest.mark.anyio
async def test_a_slow_activity_holds_no_offset_and_no_lane(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    gate = asyncio.Event()

    async def wait(call: Any) -> str:
        await gate.wait()
        return "late"

    floor.work = wait
    async with floor.running() as service:
        await floor.publish(WORK)
        await floor.publish([message_of(TaskCreated(task_id="t2", goal="count"))])
        await floor.eventually("task.status", 2)
        await service.caught_up()
        gate.set()
        assert await result_of(floor) == ["done", "late"]


@pytest.mark.anyio
async def test_a_passing_failure_is_tried_again_under_the_same_key(tmp_path: Path) -> None:
    floor = Floor(tmp_path)

    def twice(call: Any) -> str:
        if len(floor.calls) < 3:
            raise TransientError("busy", retry_after=0.01)
        return "ok"

    floor.work = twice
    async with floor.running():
        await floor.publish(WORK)
        assert await result_of(floor) == ["done", "ok"]
    assert len({call.key for call in floor.calls}) == 1


@pytest.mark.anyio
async def test_a_clear_failure_is_not_tried_again(tmp_path: Path) -> None:
    floor = Floor(tmp_path)

    def fail(call: Any) -> None:
        raise ActivityFailed(error("cannot", "no"))

    floor.work = fail
    async with floor.running():
        await floor.publish(WORK)
        assert await result_of(floor) == ["failed", None]
    assert len(floor.calls) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("effect", "runs", "outcome"),
    [("read", 2, ["done", "WORK"]), ("keyed", 2, ["done", "WORK"]), ("once", 1, ["unknown", None])],
)
async def test_after_a_crash_only_what_may_be_repeated_runs_again(
    tmp_path: Path, effect: str, runs: int, outcome: list[Any]
) -> None:
    before = Floor(tmp_path)
    started = asyncio.Event()

    async def hang(call: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    before.effect, before.work = effect, hang
    await before.bus.start()
    service = before.build()
    await service.start()
    await before.publish(WORK)
    await asyncio.wait_for(started.wait(), 5)
    await crash(service)
    await before.bus.stop()

    after = Floor(tmp_path)
    async with after.running():
        assert await result_of(after) == outcome
    assert len(before.calls + after.calls) == runs
    assert len({call.key for call in before.calls + after.calls}) == 1
    assert [call.epoch for call in before.calls + after.calls] == list(range(1, runs + 1))
    assert all(call.recovering for call in after.calls)


@pytest.mark.anyio
async def test_the_outcome_of_a_fenced_epoch_is_discarded(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    gate = asyncio.Event()

    async def wait(call: Any) -> str:
        await gate.wait()
        return "stale"

    floor.work = wait
    async with floor.running() as service:
        await floor.publish(WORK)
        await floor.eventually("task.status", 1)
        await service.caught_up()

        def take_over(unit: Any, _: None) -> None:
            (activity,) = unit.aggregate.activities.values()
            activity.owner, activity.epoch = "another", 2

        await service.call(COUNT, "default/t1", take_over, None)
        gate.set()
        await service._lanes.idle()
        await asyncio.wait([*service._activities._tasks.values(), asyncio.create_task(asyncio.sleep(0))])
        await service._lanes.idle()
        assert await floor.records("task.done") == []
        aggregate = await service.store(COUNT).find(ME, "default/t1")
        assert aggregate is not None
        assert not aggregate.closed


@pytest.mark.anyio
async def test_a_drain_waits_for_what_nobody_may_repeat(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    started = asyncio.Event()

    async def slow(call: Any) -> str:
        started.set()
        await asyncio.sleep(0.3)
        return "sent"

    floor.effect, floor.work = "once", slow
    async with floor.running():
        await floor.publish(WORK)
        await asyncio.wait_for(started.wait(), 5)
    again = Floor(tmp_path)
    await again.bus.start()
    assert await result_of(again) == ["done", "sent"]
    await again.bus.stop()


@pytest.mark.anyio
async def test_an_ended_aggregate_shrinks_to_its_tombstone_and_wakes_only_to_be_forgotten(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("raa_runtime.unit_of_work.SHRINK_SECONDS", 0.05)
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish(WORK)
        await result_of(floor)

        async def shrunk() -> Any:
            found = await service.store(COUNT).find(ME, "default/t1")
            return found is not None and found.tombstone

        await until(shrunk)
        aggregate = await service.store(COUNT).find(ME, "default/t1")
    assert aggregate is not None
    assert aggregate.wake_at == pytest.approx(aggregate.updated_at + floor.settings.tombstone_seconds)
    assert aggregate.outbox == []
    assert aggregate.state.goals == ["work"]


@pytest.mark.anyio
async def test_a_task_aggregate_that_is_not_over_always_has_a_time_to_wake(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([message_of(TaskCreated(task_id="t1", goal="count"))])
        await floor.eventually("task.status", 1)
        aggregate = await service.store(COUNT).find(ME, "default/t1")
    assert aggregate is not None
    assert aggregate.wake_at is not None


class Still:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> Any:
        raise AssertionError("liveness must not ask for the wall time")

    def monotonic(self) -> float:
        return self.seconds

    def boottime(self) -> float:
        return self.seconds


@pytest.mark.anyio
async def test_a_silent_process_counts_as_dead_and_knows_it_first(tmp_path: Path) -> None:
    store, clock = SqliteStore(tmp_path / "db.sqlite"), Still()
    await store.start([])
    one, two = Liveness(store, clock, "one", 10), Liveness(store, clock, "two", 10)
    await one.beat()
    await two.beat()
    clock.seconds += 9
    with pytest.raises(LeaseLost):
        one.check()
    await two.beat()
    assert two.dead == frozenset()
    clock.seconds += 2
    await two.beat()
    assert two.dead == {one.incarnation}
    await one.beat()
    await two.beat()
    assert two.dead == frozenset()
    await store.close()


@pytest.mark.anyio
async def test_a_restarted_process_sees_its_former_self_as_dead_at_once(tmp_path: Path) -> None:
    store, clock = SqliteStore(tmp_path / "db.sqlite"), Still()
    await store.start([])
    former = Liveness(store, clock, "one", 10)
    await former.beat()
    now = Liveness(store, clock, "one", 10)
    await now.beat()
    assert now.dead == {former.incarnation}
    await store.close()


def test_an_intent_survives_a_bad_day_of_its_processes_and_ends_what_ends_them_all():
    unit = unit_for(COUNT, "default/t1", Count())
    ended: list[Completed] = []
    unit.start("work", {}, timeout=timedelta(seconds=5))
    for number in range(20):
        if not unit.activities:
            break
        survivor = Unit(COUNT, unit.aggregate, unit.now, "test", "", f"test:1:{number}")
        [running] = unit.activities.values()
        take_over(survivor, {running.owner}, {"work": lambda _, done: ended.append(done)})
    [end] = ended
    assert (end.outcome, end.attempt, end.epoch) == ("failed", 8, 8)
    assert end.error is not None
    assert "8 processes in a row" in end.error.message
