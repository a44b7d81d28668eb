"""Every way an activity can end is one outcome; none is lost, none is mistaken for another."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from raa_runtime.activities import Activities, Call
from raa_runtime.clock import SystemClock
from raa_runtime.errors import LeaseLost, TransientError
from raa_runtime.state.aggregate import Activity, Aggregate, State
from raa_runtime.unit import Completed
from raa_schemas.ids import AggregateId

pytestmark = pytest.mark.anyio
TASK = Aggregate(AggregateId("default/t1"), "default", "t1", State(), version=1)


class Running:
    """Activities of one kind, and what they delivered."""

    def __init__(self, work: Any) -> None:
        async def run(call: Call) -> Any:
            self.calls += 1
            self.called.set()
            return await work(call)

        self.calls = 0
        self.called = asyncio.Event()
        self.done: list[Completed] = []
        self.told = asyncio.Event()
        log = structlog.wrap_logger(structlog.ReturnLogger())
        self.activities = Activities({"work": run}, SystemClock(), lambda: None, log, self._deliver)

    def _deliver(self, kind: str, aggregate: Aggregate[Any], done: Completed) -> None:
        self.done.append(done)
        self.told.set()

    def launch(
        self, *, kind: str = "work", effect: str = "read", seconds: float = 5.0, epoch: int = 1, stopping: bool = False
    ) -> None:
        deadline = datetime.now(UTC).timestamp() + seconds
        self.activities.launch(
            "count", TASK, Activity("a", kind, {}, "key", effect, "me", epoch, deadline, seconds, stopping=stopping)
        )

    async def outcome(self) -> tuple[str, str | None]:
        await asyncio.wait_for(self.told.wait(), 5)
        [done] = self.done
        return done.outcome, done.error.code if done.error else None


async def raising(problem: BaseException) -> None:
    raise problem


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (asyncio.CancelledError(), ("failed", "internal")),
        (TimeoutError("of the tool itself"), ("failed", "internal")),
    ],
)
async def test_what_a_tool_raises_itself_is_neither_a_stop_nor_the_deadline(problem: BaseException, expected: Any):
    running = Running(lambda _: raising(problem))
    running.launch()
    assert await running.outcome() == expected


async def test_the_deadline_is_the_deadline():
    running = Running(lambda _: asyncio.sleep(60))
    running.launch(seconds=0.05)
    assert await running.outcome() == ("failed", "tool_timeout")


async def test_after_its_deadline_nothing_is_called_any_more():
    running = Running(lambda _: asyncio.sleep(0))
    running.launch(effect="once", seconds=-1)
    assert await running.outcome() == ("failed", "tool_timeout")
    assert running.calls == 0


async def test_a_stop_reaches_an_activity_that_pauses_between_attempts():
    running = Running(lambda _: raising(TransientError("busy", retry_after=60)))
    running.launch(seconds=600)
    await running.called.wait()
    running.activities.stop("count", TASK.id, "a")
    assert await running.outcome() == ("cancelled", "cancelled")


async def test_a_stop_before_the_first_step_still_ends_in_an_outcome():
    running = Running(lambda _: asyncio.sleep(60))
    running.launch()
    running.activities.stop("count", TASK.id, "a")
    assert await running.outcome() == ("cancelled", "cancelled")
    assert running.calls == 0


async def test_an_intent_that_is_to_be_stopped_already_is_never_called():
    running = Running(lambda _: asyncio.sleep(60))
    running.launch(stopping=True)
    assert await running.outcome() == ("cancelled", "cancelled")
    assert running.calls == 0


async def test_a_result_that_is_not_json_fails_the_activity_and_nothing_else():
    async def odd(_: Call) -> object:
        return {"x": object()}

    running = Running(odd)
    running.launch()
    assert await running.outcome() == ("failed", "bad_output")


async def test_an_activity_this_release_does_not_know_fails_in_words():
    running = Running(lambda _: asyncio.sleep(0))
    running.launch(kind="gone")
    assert (await running.outcome())[0] == "failed"
    assert "this release does no 'gone'" in (running.done[0].error.message if running.done[0].error else "")


async def test_a_lost_lease_is_tried_again_until_the_deadline_and_no_longer():
    running = Running(lambda _: raising(LeaseLost("no heartbeat")))
    running.launch(effect="once", seconds=0.5)
    assert await running.outcome() == ("failed", "unavailable")
    assert running.calls >= 2


async def test_a_negative_pause_is_no_busy_loop():
    running = Running(lambda _: raising(TransientError("now", retry_after=-1)))
    running.launch(seconds=0.2)
    await running.outcome()
    assert running.calls < 40


async def test_one_epoch_is_launched_once_until_it_is_settled():
    gate = asyncio.Event()
    running = Running(lambda _: gate.wait())
    running.launch()
    running.launch()
    gate.set()
    await running.outcome()
    running.launch()
    assert len(running.activities) == 0
    running.activities.settled("count", TASK.id, "a", 1)
    running.launch()
    assert len(running.activities) == 1
    await running.activities.abandon()


async def test_the_end_of_an_earlier_epoch_does_not_hide_the_later_one():
    gates = [asyncio.Event(), asyncio.Event()]
    running = Running(lambda call: gates[call.epoch - 1].wait())
    running.launch(epoch=1)
    running.launch(epoch=2)
    gates[0].set()
    await asyncio.wait_for(running.told.wait(), 5)
    await asyncio.sleep(0)
    assert len(running.activities) == 1
    running.activities.stop("count", TASK.id, "a")
    await running.activities.abandon()


async def test_what_does_not_let_go_holds_the_drain_for_a_while_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raa_runtime.activities.LET_GO_SECONDS", 0.05)
    end = asyncio.Event()

    async def stubborn(_: Call) -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    running = Running(stubborn)
    running.launch()
    await asyncio.sleep(0)
    await asyncio.wait_for(running.activities.abandon(), 2)
    end.set()
    assert running.done == []
