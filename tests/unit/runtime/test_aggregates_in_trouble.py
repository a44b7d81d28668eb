"""Aggregates that are newer, broken, too large, or written without an answer: what each may cost."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.dispatch import On
from raa_runtime.errors import DependencyUnavailable, NewerState
from raa_runtime.scope import TenantScope
from raa_runtime.state.aggregate import Activity, Aggregate, Deferred
from raa_runtime.state.codec import Kind
from raa_runtime.state.port import Document, Write
from raa_runtime.testing import message_of
from raa_runtime.unit import Unit
from raa_runtime.unit_of_work import Address, UnitOfWork
from raa_runtime.wakes import Poller, forget_ended
from raa_schemas.ids import AggregateId, TenantId
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated, TaskStalled
from tests.unit.runtime.floor import COUNT, Count, Floor, away, until
from tests.unit.runtime.test_delivery import crash, created, headers

pytestmark = pytest.mark.anyio
ME = TenantScope(TenantId("default"))
REJECTED = message_of(PlanRejected(task_id="t1", plan_version=1, findings=[]))


async def document(service: Any) -> Document:
    found: Document | None = await service._db.find(ME, "count", "default/t1")
    assert found is not None
    return found


async def rewrite(service: Any, **changes: Any) -> None:
    """Change a stored document behind the service's back, as another process would."""
    found = await document(service)
    changed = found | changes | {"version": found["version"] + 1, "write_id": "another/1"}
    [verdict] = await service._db.commit([Write("count", changed, json.dumps(changed).encode(), found["version"])])
    assert verdict == "stored"


async def test_a_newer_state_is_left_alone_and_its_events_wait_for_a_newer_process(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        newer = {"goals": {"of": "another shape"}, "more": [1]}
        await rewrite(service, state=newer, state_schema=2, added_later="kept")
        await floor.publish([REJECTED])
        await service.caught_up()
        found = await document(service)
        assert found["state"] == newer
        assert (found["state_schema"], found["added_later"]) == (2, "kept")
        assert [item["topic"] for item in found["deferred"]] == ["plan.rejected"]
        assert found["wake_at"] is not None
        assert found["partition"] is None
        assert await floor.records("planner.dlq") == []


async def test_the_newer_process_takes_up_what_waited_for_it(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state_schema=2)
        await floor.publish([REJECTED])
        await service.caught_up()
    after = Floor(tmp_path)
    after.kind = Kind("count", Count, schema=2)
    async with after.running() as service:
        await after.eventually("task.status", 2)
        assert (await document(service))["state"]["rejected"] == 1


async def test_a_state_that_fits_no_model_is_quarantined_with_one_dead_letter_that_stalls_the_task(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state={"goals": 7}, wake_at=1.0)
        [letter] = await floor.eventually("planner.dlq", 1)
        assert headers(letter)["dl_kind"] == "aggregate"
        [_, stalled] = await floor.eventually("task.status", 2)
        assert b'"state":"stalled"' in (stalled.value or b"")
        found = await document(service)
        assert (found["quarantined"], found["state"]) == (True, {"goals": 7})


async def test_the_news_of_a_dead_letter_that_dies_as_well_is_not_told_again_and_again(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail_rejected = RuntimeError("bug")

    def dies(_: Any, event: Any) -> None:
        raise RuntimeError(event.id)

    floor.more = [On(TaskStalled, COUNT, dies)]
    async with floor.running() as service:
        await floor.publish([created(), REJECTED])
        died = [headers(letter)["dl_topic"] for letter in await floor.eventually("planner.dlq", 2)]
        await service.caught_up()
        assert (died, len(await floor.records("task.stalled"))) == (["plan.rejected", "task.stalled"], 1)


async def test_an_event_for_a_state_that_fits_no_model_sets_it_aside_and_waits_in_it(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state={"goals": 7})
        await floor.publish([REJECTED])
        [letter] = await floor.eventually("planner.dlq", 1)
        assert headers(letter)["dl_kind"] == "aggregate"
        told = json.loads((await floor.eventually("task.status", 2))[1].value or b"")
        assert (told["state"], "redrive" in told["waiting_for"]) == ("stalled", True)
        await service.caught_up()
        found = await service._db.find(ME, "count", "default/t1")
        assert found
        assert (found["quarantined"], [item["topic"] for item in found["deferred"]]) == (True, ["plan.rejected"])
        assert len(await floor.records("planner.dlq")) == 1


async def test_an_aggregate_too_large_to_say_so_can_still_be_quarantined(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail_worked = RuntimeError("bug")
    gate = asyncio.Event()
    floor.work = lambda _: gate.wait()
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.status", 1)

        def fill(unit: Unit[Count], _: None) -> None:
            unit.state.goals = ["é" * 490_000]

        await service.call(COUNT, "default/t1", fill, None)
        gate.set()
        [letter] = await floor.eventually("planner.dlq", 1)
        assert json.loads(letter.value or b"")["state_bytes"] > 400_000
        await until(lambda: _is(service, quarantined=True))


async def _is(service: Any, **wanted: Any) -> bool:
    found = await document(service)
    return all(found[name] == value for name, value in wanted.items())


async def test_a_result_too_large_to_store_ends_the_activity_as_failed(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.work = lambda _: "x" * 1_200_000
    async with floor.running():
        await floor.publish([created("t1", "work")])
        [done] = await floor.eventually("task.done", 1)
    assert json.loads(done.value or b"")["result"] == ["failed", None]


async def test_an_intent_that_was_stored_without_an_answer_is_launched(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        commit = service._db.commit
        lost: list[Any] = []

        async def answer_lost(writes: Any) -> Any:
            verdicts = await commit(writes)
            if not lost and any(write.document["activities"] for write in writes):
                lost.append(1)
                raise DependencyUnavailable("the reply got lost")
            return verdicts

        service._db.commit = answer_lost  # type: ignore[method-assign]
        await floor.publish([created("t1", "work")])
        [done] = await floor.eventually("task.done", 1)
        assert json.loads(done.value or b"")["result"] == ["done", "WORK"]
        assert (lost, len(floor.calls)) == ([1], 1)


async def test_a_deferred_event_that_leads_to_nothing_leaves_the_list(tmp_path: Path):
    floor = Floor(tmp_path)
    broken = True
    floor.fail = lambda _: away("") if broken else None
    floor.ignores = lambda: not broken
    async with floor.running() as service:
        await floor.publish([created()])
        await service.caught_up()
        assert len((await document(service))["deferred"]) == 1
        broken = False
        await until(lambda: _is(service, deferred=[]))


async def test_an_aggregate_that_ended_keeps_its_deferred_events_until_they_were_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raa_runtime.unit_of_work.SHRINK_SECONDS", 0.05)
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await service.caught_up()
        record = (await floor.records("task.created"))[0]

        def end(unit: Unit[Count], _: None) -> None:
            unit.close()
            now = datetime.now(UTC).timestamp()
            unit.aggregate.deferred.append(
                Deferred(
                    "plan.rejected",
                    0,
                    0,
                    now,
                    None,
                    [(name, (raw or b"").decode()) for name, raw in REJECTED.headers],
                    REJECTED.value.decode(),
                    "late",
                    1,
                    now + 0.2,
                    "test",
                    record.timestamp.timestamp(),
                )
            )

        await service.call(COUNT, "default/t1", end, None)
        await until(lambda: _is(service, tombstone=True))
        assert b"running" in ((await floor.records("task.status"))[-1].value or b"")


async def test_the_dead_letter_of_an_aggregate_survives_a_crash_before_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raa_runtime.unit_of_work.OUTBOX_CHECK_SECONDS", 0.3)
    floor = Floor(tmp_path)
    floor.fail_worked = RuntimeError("bug")
    hold = asyncio.Event()
    publish = floor.bus.publish

    async def hanging(messages: Any) -> Any:
        if any(message.topic == "planner.dlq" for message in messages):
            hold.set()
            await asyncio.Event().wait()
        return await publish(messages)

    await floor.bus.start()
    service = floor.build()
    await service.start()
    floor.bus.publish = hanging
    await publish([created("t1", "work")])
    await asyncio.wait_for(hold.wait(), 5)
    await crash(service)
    await floor.bus.stop()
    after = Floor(tmp_path)
    async with after.running() as service:
        [letter] = await after.eventually("planner.dlq", 1)
        assert headers(letter)["dl_kind"] == "aggregate"
        await until(lambda: _is(service, wake_at=None, outbox=[]))


async def test_a_stale_copy_never_costs_an_event_its_life(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state={"goals": ["count"], "rejected": 41})
        await floor.publish([REJECTED])
        await floor.eventually("task.status", 2)
        await service.caught_up()
        assert (await document(service))["state"]["rejected"] == 42


async def test_a_process_stops_what_another_one_asks_it_to_stop(tmp_path: Path):
    floor = Floor(tmp_path, lease_seconds=0.5)
    floor.seconds = 60
    floor.work = lambda _: asyncio.sleep(60)
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        found = await document(service)
        [activity] = found["activities"].values()
        owner = activity["owner"]
        await rewrite(
            service, activities={activity["id"]: activity | {"stopping": True}}, owners=[owner, f"stop!{owner}"]
        )
        [done] = await floor.eventually("task.done", 1)
    assert json.loads(done.value or b"")["result"] == ["cancelled", None]


async def test_a_wake_that_waits_in_its_lane_does_for_all(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        gate = asyncio.Event()

        async def busy() -> None:
            await gate.wait()

        service._lanes.put("count:default/t9", busy)
        for _ in range(5):
            service._dispatcher.wake(COUNT, "default/t9")
        assert len(service._lanes) == 2
        gate.set()
        await service._lanes.idle()


async def test_wakes_under_way_do_not_hide_what_else_is_due(tmp_path: Path):
    asked: list[int] = []

    class Store:
        async def due(self, kind: str, now: float, partitions: Any, limit: int) -> list[str]:
            asked.append(limit)
            return []

    floor = Floor(tmp_path)
    service = floor.build()
    store: Any = Store()
    poller = Poller(store, service.platform.clock, [COUNT], lambda: None, lambda *_: None)
    await poller.sweep(under_way=150)
    assert asked == [1_150]
    await service.http.stop()


async def test_a_handler_sees_no_timer_of_the_past_twice(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([message_of(TaskCreated(task_id="t1", goal="count"))])
        await floor.eventually("task.status", 1)

        def hurry(unit: Unit[Count], _: None) -> None:
            unit.set_timer("end", unit.now - timedelta(seconds=1))

        await service.call(COUNT, "default/t1", hurry, None)
        await floor.eventually("task.done", 1)
        await until(lambda: _is(service, closed=True, wake_tries=0))
        assert len(await floor.records("task.done")) == 1


async def test_an_outcome_on_a_newer_state_is_kept_for_a_process_of_that_release(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.effect = "once"
    gate = asyncio.Event()

    async def work(_: Any) -> str:
        await gate.wait()
        return "done once"

    floor.work = work
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state_schema=2)
        gate.set()
        await until(lambda: _kept(service))
        found = await document(service)
        assert (found["partition"], found["state_schema"]) == (None, 2)
        assert found["wake_at"] < datetime.now(UTC).timestamp() + 1
    after = Floor(tmp_path)
    after.kind = Kind("count", Count, schema=2)
    async with after.running():
        [done] = await after.eventually("task.done", 1)
    assert json.loads(done.value or b"")["result"] == ["done", "done once"]
    assert after.calls == []


async def _kept(service: Any) -> bool:
    [activity] = (await document(service))["activities"].values()
    return activity["kept"] is not None


async def test_a_caller_is_told_that_only_a_newer_release_can_decide(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        await rewrite(service, state_schema=2)
        with pytest.raises(NewerState, match="newer release"):
            await service.call(COUNT, "default/t1", lambda unit, _: unit.close(), None)


async def test_closing_stops_what_another_process_runs_and_its_outcome_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raa_runtime.unit_of_work.SHRINK_SECONDS", 0.05)
    floor = Floor(tmp_path, lease_seconds=0.5)
    floor.seconds = 60
    stopped = asyncio.Event()

    async def work(_: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise

    floor.work = work
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        other = UnitOfWork(
            "planner", "", "elsewhere:1:2", service._db, floor.bus, service.platform.clock, service.log,
            lambda *_: None, lambda *_: None,
        )  # fmt: skip
        closed = await other.run(Address(COUNT, "default/t1", "t1"), lambda unit: unit.close(), "command")
        assert [activity.stopping for activity in closed.aggregate.activities.values()] == [True]
        await asyncio.wait_for(stopped.wait(), 5)
        await until(lambda: _is(service, tombstone=True, activities={}))
        assert await floor.records("task.done") == []


async def test_an_ended_aggregate_does_not_wait_for_a_process_that_died(tmp_path: Path):
    aggregate = Aggregate(AggregateId("default/t1"), "default", "t1", Count(), closed=True)
    aggregate.activities = {name: _activity(name, owner) for name, owner in (("a", "dead"), ("b", "alive"))}
    forget_ended(aggregate, {"dead"}, 10.0)
    assert list(aggregate.activities) == ["b"]
    forget_ended(aggregate, {"dead"}, 1_000.0)
    assert aggregate.activities == {}


def _activity(name: str, owner: str) -> Activity:
    return Activity(name, "work", {}, "key", "read", owner, 1, deadline=20.0, timeout_seconds=10)


@pytest.mark.parametrize(("kills", "expected"), [(1, 1), (3, 1), (8, 2), (40, 10)])
def test_wakes_that_ended_with_their_process_count_a_quarter(tmp_path: Path, kills: int, expected: int):
    dispatcher = Floor(tmp_path).build()._dispatcher
    dispatcher.lives = lambda incarnation: incarnation == "me"
    aggregate = Aggregate(AggregateId("default/t1"), "default", "t1", Count(), version=5, wake_tries=1)
    for kill in range(kills):
        aggregate.write_id = f"killed{kill}/1"
        aggregate.wake_tries += not dispatcher._was_interrupted(aggregate)
        aggregate.version += 1
    assert aggregate.wake_tries in {expected, expected + 1}
    aggregate.write_id = "me/1"
    assert not dispatcher._was_interrupted(aggregate)
