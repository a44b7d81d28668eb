"""Units that run together: what is plain is done for all at once, and what is not harms nobody."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from raa_runtime.clock import SystemClock
from raa_runtime.convoy import Job, run_together
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.known import Cache, Known
from raa_runtime.lanes import Lanes
from raa_runtime.scope import scope_of
from raa_runtime.state.aggregate import Aggregate, State
from raa_runtime.state.codec import Kind, decode, encode
from raa_runtime.state.port import KindSpec, Write
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.telemetry import logger
from raa_runtime.unit import Origin, Received, Unit
from raa_runtime.unit_of_work import BUS_PATIENCE_SECONDS, Address, UnitOfWork
from raa_schemas.ids import AggregateId
from raa_schemas.task import TaskCreated, TaskStatus

pytestmark = pytest.mark.anyio


class Counted(State):
    seen: list[str] = Field(default_factory=list)


COUNTED = Kind("counted", Counted)


class Wire:
    """A bus that keeps what it is given, and refuses what the test names."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.away: set[str] = set()
        self.calls = 0
        self.patience: list[float | None] = []

    async def publish(self, messages: Sequence[Any], *, patience: float | None = None) -> list[Exception | None]:
        self.calls += 1
        self.patience.append(patience)
        verdicts: list[Exception | None] = []
        for message in messages:
            key = message.key.decode()
            away = key in self.away
            verdicts.append(DependencyUnavailable("away") if away else None)
            self.sent += [] if away else [key]
        return verdicts


class Desk:
    """A unit of work on a real store."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "counted.sqlite")
        self.wire = Wire()
        self.work = self.process("one")

    def process(self, name: str) -> UnitOfWork:
        bus: Any = self.wire
        return UnitOfWork("counted", "", f"counted:1:{name}", self.store, bus, SystemClock(), logger("counted"),
                          lambda *_: None, lambda *_: None)  # fmt: skip

    async def document(self, task: str) -> dict[str, Any]:
        found = await self.work.store.find_many("counted", [(scope_of("acme/t"), f"acme/{task}")])
        assert found[0] is not None
        return found[0]


@pytest.fixture
async def desk(tmp_path: Path) -> Any:
    made = Desk(tmp_path)
    await made.store.start([KindSpec("counted")])
    yield made
    await made.store.close()


def at(task: str) -> Address:
    return Address(COUNTED, f"acme/{task}", task)


def arrived(task: str, number: int) -> Received[TaskCreated]:
    data = TaskCreated(task_id=task, goal="count")
    return Received(data, f"{task}-{number}", "acme", SystemClock().now(), Origin("task.created", 0, number), "digest")


def note(text: str, fails: Sequence[str] = ()) -> Any:
    def decide(unit: Unit[Counted]) -> None:
        unit.state.seen.append(text)
        unit.publish(TaskStatus(task_id=unit.task_id, state="running"))
        if unit.task_id in fails:
            raise ZeroDivisionError(unit.task_id)

    return decide


def job(task: str, number: int, fails: Sequence[str] = ()) -> Job:
    return Job(at(task), note(f"{number}", fails), "event", arrived(task, number))


async def test_what_is_plain_is_published_by_one_call_and_kept(desk: Desk):
    units = await run_together(desk.work, [job(f"t{number}", 1) for number in range(5)])
    assert all(units)
    assert (desk.wire.calls, desk.wire.sent) == (1, [f"acme/t{number}" for number in range(5)])
    assert len(desk.work.cache) == 5
    assert (await desk.document("t3"))["state"] == {"seen": ["1"]}


async def test_a_decision_that_fails_leaves_the_others_alone_and_nothing_behind(desk: Desk):
    await run_together(desk.work, [job("bad", 1), job("good", 1)])
    bad, good = await run_together(desk.work, [job("bad", 2, ["bad"]), job("good", 2)])
    assert (bad, bool(good)) == (None, True)
    assert desk.work.cache.look("counted", "acme/bad") is None
    with pytest.raises(ZeroDivisionError):
        await desk.work.run(at("bad"), note("2", ["bad"]), "event", arrived("bad", 2))
    again = await desk.work.run(at("bad"), note("3"), "event", arrived("bad", 3))
    assert again.state.seen == ["1", "3"]
    assert (await desk.document("bad"))["state"] == {"seen": ["1", "3"]}


async def test_what_another_process_wrote_meanwhile_costs_a_lost_race_and_no_event(desk: Desk):
    other = desk.process("two")
    await run_together(desk.work, [job("t", 1)])
    await other.run(at("t"), note("theirs"), "event", arrived("t", 2))
    assert await run_together(desk.work, [job("t", 3)]) == [None]
    assert desk.work.cache.look("counted", "acme/t") is None
    unit = await desk.work.run(at("t"), note("3"), "event", arrived("t", 3))
    assert unit.state.seen == ["1", "theirs", "3"]
    assert (await desk.document("t"))["state"] == {"seen": ["1", "theirs", "3"]}


async def test_a_duplicate_leaves_the_convoy_and_publishes_nothing(desk: Desk):
    await run_together(desk.work, [job("t", 1)])
    assert await run_together(desk.work, [job("t", 1)]) == [None]
    assert desk.wire.sent == ["acme/t"]


async def test_one_key_that_the_bus_does_not_take_holds_back_only_itself(desk: Desk):
    desk.wire.away = {"acme/stuck"}
    stuck, free = await run_together(desk.work, [job("stuck", 1), job("free", 1)])
    assert (stuck, bool(free)) == (None, True)
    assert len((await desk.document("stuck"))["outbox"]) == 1
    desk.wire.away = set()
    await desk.work.run(at("stuck"), note("2"), "event", arrived("stuck", 2))
    assert desk.wire.sent == ["acme/free", "acme/stuck", "acme/stuck"]


async def test_published_entries_leave_the_outbox_with_the_next_write(desk: Desk):
    await run_together(desk.work, [job("t", 1)])
    first = (await desk.document("t"))["outbox"]
    await run_together(desk.work, [job("t", 2)])
    second = (await desk.document("t"))["outbox"]
    assert (len(first), len(second)) == (1, 1)
    assert first[0]["event_id"] != second[0]["event_id"]
    assert len(desk.wire.sent) == 2


async def test_a_store_that_is_away_leaves_every_unit_to_its_own_lane(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    async def away(writes: Sequence[Write]) -> Any:
        raise DependencyUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "commit", away)
        assert await run_together(desk.work, [job("a", 1), job("b", 1)]) == [None, None]
    assert desk.wire.sent == []
    assert all(await run_together(desk.work, [job("a", 1), job("b", 1)]))


async def test_what_is_kept_in_memory_is_what_a_reload_would_give(desk: Desk):
    await run_together(desk.work, [job("t", 1)])
    kept = desk.work.cache.look("counted", "acme/t")
    stored = decode(COUNTED, await desk.document("t"))
    stored.outbox = []
    assert kept == stored


async def test_the_arguments_of_an_activity_do_not_change_with_the_state_they_came_from(desk: Desk):
    def start(unit: Unit[Counted]) -> None:
        unit.state.seen.append("first")
        unit.start("work", {"seen": unit.state.seen}, timeout=timedelta(minutes=1))

    await desk.work.run(at("t"), start, "event", arrived("t", 1))
    unit = await desk.work.run(at("t"), note("second"), "event", arrived("t", 2))
    assert unit.state.seen == ["first", "second"]
    assert [activity.args for activity in unit.activities.values()] == [{"seen": ["first"]}]


def test_the_cache_drops_the_oldest_beyond_its_bytes():
    cache = Cache(most_bytes=10_000)
    size = 0
    for number in range(100):
        aggregate = Aggregate(AggregateId(f"acme/{number}"), "acme", str(number), Counted())
        size = len(encode(COUNTED, aggregate).encoded)
        cache.put("counted", Known(aggregate, [], size))
    assert 10_000 // size - 2 <= len(cache) <= 10_000 // size + 2
    assert cache.look("counted", "acme/99") is not None
    assert cache.take("counted", "acme/0") is None
    assert cache.take("counted", "acme/99") is not None
    assert cache.take("counted", "acme/99") is None


class Riding:
    """A convoy that does even numbers together and leaves the odd ones."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.sizes: list[int] = []
        self.gate = asyncio.Event()

    async def together(self, items: Sequence[int]) -> Sequence[bool]:
        self.sizes.append(len(items))
        await self.gate.wait()
        self.done += [("together", item) for item in items if item % 2 == 0]
        return [item % 2 == 0 for item in items]

    async def alone(self, item: int) -> None:
        self.done.append(("alone", item))


async def test_a_lane_keeps_its_order_whether_its_items_ride_together_or_alone():
    lanes, riding = Lanes(), Riding()
    for number in (0, 1, 2, 3):
        lanes.join(f"lane {number % 2}", riding, number, 0)
    lanes.join("lane 4", riding, 4, 1)
    await asyncio.sleep(0)
    riding.gate.set()
    await lanes.idle()
    assert sorted(riding.sizes) == [1, 2]  # one convoy for each partition
    assert [item for how, item in riding.done if item % 2] == [1, 3]
    assert [item for how, item in riding.done if not item % 2] == [0, 4, 2]
    assert ("alone", 1) in riding.done
    assert len(lanes) == 0


async def test_a_partition_whose_broker_is_away_travels_apart_and_the_others_go_on(desk: Desk):
    places = [Address(COUNTED, f"acme/t{number}", f"t{number}", number) for number in range(3)]
    desk.wire.away = {"acme/t1"}
    units = await run_together(
        desk.work, [Job(place, note("1"), "event", arrived(place.task_id, 1)) for place in places]
    )
    assert [unit is not None for unit in units] == [True, False, True]
    assert [desk.work.late.apart(number) for number in range(3)] == [None, 1, None]
    desk.wire.away = set()
    [unit] = await run_together(desk.work, [Job(places[1], note("2"), "event", arrived("t1", 2))])
    assert unit is not None
    assert desk.wire.patience == [BUS_PATIENCE_SECONDS, None]
