"""Two processes of one service: what waits keeps its order when partitions change hands, and a stop hands over."""

import asyncio
from pathlib import Path

import pytest

from raa_runtime.errors import TransientError
from raa_runtime.scope import TenantScope
from raa_runtime.service import Service
from raa_runtime.topics import topic_specs
from raa_schemas.ids import TenantId
from tests.unit.runtime.floor import COUNT, Floor, until
from tests.unit.runtime.test_delivery import created

pytestmark = pytest.mark.anyio
ME = TenantScope(TenantId("default"))


async def two(folder: Path) -> tuple[Floor, Floor]:
    """Make two processes on one bus and one store."""
    one, other = Floor(folder, instance="one"), Floor(folder, instance="other")
    other.bus = one.bus
    await one.bus.start()
    await one.bus.apply_topics(topic_specs(one.settings))
    return one, other


async def goals(service: Service, task: str) -> list[str]:
    aggregate = await service.store(COUNT).find(ME, f"default/{task}")
    return list(aggregate.state.goals) if aggregate else []


async def test_deferred_events_of_a_key_keep_their_order_over_rebalances(tmp_path: Path):
    one, other = await two(tmp_path)
    tasks = [f"t{number}" for number in range(12)]
    gone = True
    for floor in (one, other):
        floor.fail = lambda goal: (
            TransientError("the far side is away", retry_after=0.3) if gone and goal == "first" else None
        )
    first, second = one.build(), other.build()
    await first.start()
    await one.publish([created(task, "first", f"{task}-1") for task in tasks])
    await first.caught_up()
    await second.start()  # takes half of the partitions over, with what is deferred in them
    await one.publish([created(task, "second", f"{task}-2") for task in tasks])

    async def all_wait() -> bool:
        found = [await first.store(COUNT).find(ME, f"default/{task}") for task in tasks]
        return all(aggregate and len(aggregate.deferred) == 2 for aggregate in found)

    await until(all_wait)
    assert second._partitions()
    await first.drain()  # and now the other has them all
    await one.publish([created(task, "third", f"{task}-3") for task in tasks])
    gone = False

    async def all_handled() -> bool:
        return all([len(await goals(second, task)) == 3 for task in tasks])

    await until(all_handled)
    assert {tuple(await goals(second, task)) for task in tasks} == {("first", "second", "third")}
    await second.drain()
    await one.bus.stop()


async def test_a_process_that_stops_hands_over_what_may_run_elsewhere_at_once(tmp_path: Path):
    one, other = await two(tmp_path)
    one.seconds = other.seconds = 60
    begun = asyncio.Event()

    async def never(_: object) -> None:
        begun.set()
        await asyncio.sleep(60)

    one.work = never
    first, second = one.build(), other.build()
    await first.start()
    await one.publish([created("t1", "work")])
    await asyncio.wait_for(begun.wait(), 10)
    await second.start()
    await first.drain()
    await one.eventually("task.done", 1)
    assert [call.attempt for call in other.calls] == [2]
    assert one.calls[0].key == other.calls[0].key
    await second.drain()
    await one.bus.stop()
