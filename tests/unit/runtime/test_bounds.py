"""Everything that could grow has a bound, and what meets it an end with a name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.deferral import MOST_DEFERRED
from raa_runtime.errors import AggregateTooLarge, TransientError
from raa_runtime.scope import TenantScope
from raa_runtime.testing import message_of
from raa_runtime.unit import Unit
from raa_schemas.ids import TenantId
from raa_schemas.plan import PlanRejected
from tests.unit.runtime.floor import COUNT, Count, Floor, until
from tests.unit.runtime.test_delivery import created, headers

pytestmark = pytest.mark.anyio
ME = TenantScope(TenantId("default"))


async def test_no_more_records_are_taken_than_may_be_in_flight_and_the_rest_stays_as_lag(tmp_path: Path):
    floor = Floor(tmp_path, max_in_flight=8)
    gate, most = asyncio.Event(), 0
    async with floor.running() as service:
        consumer: Any = service._consumer
        handle_all = consumer._handle_all

        async def slow(together: Any) -> Any:
            nonlocal most
            most = max(most, consumer.in_flight)
            await gate.wait()
            return await handle_all(together)

        consumer._handle_all = slow
        await floor.publish([created(f"t{number}") for number in range(100)])

        async def full() -> bool:
            return bool(consumer.in_flight == 8)

        await until(full)
        for _ in range(5):
            await floor.bus.appended.wait(0.02)
        assert sum((await consumer.subscription.lag()).values()) == 100
        gate.set()
        await floor.eventually("task.status", 100)
    assert most == 8


async def test_an_event_that_would_make_an_aggregate_too_large_is_a_dead_letter_and_the_next_is_handled(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:

        def fill(unit: Unit[Count], _: None) -> None:
            unit.state.goals = ["x" * 985_000]

        await service.call(COUNT, "default/t1", fill, None)
        await floor.publish([created(goal="large " * 2_700), created(goal="small", event_id="e2")])
        [letter] = await floor.eventually("planner.dlq", 1)
        assert headers(letter)["dl_error_class"] == "AggregateTooLarge"
        await service.caught_up()
        aggregate = await service.store(COUNT).find(ME, "default/t1")
        assert aggregate is not None
        assert [len(goal) for goal in aggregate.state.goals] == [985_000, 5]


async def test_a_caller_whose_change_would_be_too_large_is_told(tmp_path: Path):
    floor = Floor(tmp_path)

    def fill(unit: Unit[Count], _: None) -> None:
        unit.state.goals = ["x" * 1_100_000]

    async with floor.running() as service:
        with pytest.raises(AggregateTooLarge, match="1 MB"):
            await service.call(COUNT, "default/t1", fill, None)


async def test_what_does_not_fit_behind_a_deferred_event_is_a_dead_letter(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail = lambda _: TransientError("the far side is away", retry_after=600)
    async with floor.running() as service:
        later = [PlanRejected(task_id="t1", plan_version=number, findings=[]) for number in range(1, MOST_DEFERRED + 3)]
        await floor.publish([created(), *(message_of(event, event_id=f"e{event.plan_version}") for event in later)])
        letters = await floor.eventually("planner.dlq", 3)
        assert {headers(letter)["dl_error_class"] for letter in letters} == {"DeferralFull"}
        assert {headers(letter)["dl_topic"] for letter in letters} == {"plan.rejected"}
        await service.caught_up()
        aggregate = await service.store(COUNT).find(ME, "default/t1")
        assert aggregate is not None
        assert len(aggregate.deferred) == MOST_DEFERRED
