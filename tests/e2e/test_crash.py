"""Promise 1 under kill -9: every accepted task ends once, whoever died in the middle of the load."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from raa_client.connect import connect
from raa_client.observed import Observed
from raa_runtime.bus.port import Record
from raa_schemas.ids import owned
from raa_schemas.task import TaskDone
from raa_schemas.topics import TOPICS, dead_letter_topic
from tests.e2e.house import House, all_in_one, running
from tests.e2e.story import WINES, give, task

TASKS = 50
PATIENCE_SECONDS = 60
GROUPS = {reader for topic in TOPICS.values() for reader in topic.readers}


async def load(house: House, tenant: str) -> None:
    """Submit the tasks in a burst; every fifth reads a file."""
    async with connect(house.settings, tenant) as client:
        for number in range(TASKS):
            if number % 5:
                await give(client, task(f"n{number}", f"what is {number} * (3 + 4)"))
            else:
                goal = f"Average of alcohol in winequality-red.csv where quality > {number % 3 + 3}"
                await give(client, task(f"n{number}", goal), WINES[:1])


async def done_of(house: House, tenant: str, *, follow: bool) -> AsyncIterator[Observed]:
    topic = owned(house.settings.deployment, TaskDone.event_type())
    async with connect(house.settings, tenant) as client:
        async for event in client.tail(topic, from_beginning=True, follow=follow):
            if event.tenant == tenant:
                yield event


async def wait_for_ends(house: House, tenant: str, count: int) -> None:
    """Wait until so many different tasks have ended."""
    ended = set[str]()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in done_of(house, tenant, follow=True):
            ended.add(event.envelope.subject)
            if len(ended) >= count:
                return


async def check_ends(house: House, tenant: str) -> None:
    ends = [event async for event in done_of(house, tenant, follow=False)]
    assert {event.envelope.subject for event in ends} == {f"n{number}" for number in range(TASKS)}
    assert len({event.id for event in ends}) == TASKS
    by_outcome = {
        event.envelope.subject: event.event.error
        for event in ends
        if isinstance(event.event, TaskDone) and event.event.outcome != "succeeded"
    }
    assert by_outcome == {}
    for event in ends:
        number = int(event.envelope.subject[1:])
        assert not number % 5 or event.event.result == number * 7  # type: ignore[attr-defined]
    assert await dead_letters(house, tenant) == []


async def dead_letters(house: House, tenant: str) -> list[Record]:
    topics = [owned(house.settings.deployment, dead_letter_topic(group)) for group in GROUPS]
    async with connect(house.settings, tenant) as client:
        return [
            record
            async for record in client.bus.read(topics, from_beginning=True, follow=False)
            if tenant.encode() in {raw for _, raw in record.headers} | {(record.key or b"").partition(b"/")[0]}
        ]


def test_tasks_survive_two_power_cuts_of_the_whole_stack() -> None:
    with TemporaryDirectory(prefix="raa-") as folder, running(all_in_one(Path(folder))) as house:
        cut_power_twice(house, (TASKS // 6, TASKS // 2))


def cut_power_twice(house: House, after: tuple[int, int]) -> None:
    asyncio.run(load(house, "default"))
    for count in after:
        asyncio.run(wait_for_ends(house, "default", count))
        house.kill("raa")
        house.start("raa")
    asyncio.run(wait_for_ends(house, "default", TASKS))
    asyncio.run(check_ends(house, "default"))


def test_tasks_survive_an_executor_and_a_planner_that_are_killed(separate: House) -> None:
    tenant = f"k{uuid4().hex[:8]}"
    asyncio.run(load(separate, tenant))
    asyncio.run(wait_for_ends(separate, tenant, 5))
    separate.kill("executor-2", "planner-2")
    try:
        asyncio.run(wait_for_ends(separate, tenant, TASKS))
    finally:
        separate.start("executor-2", "planner-2")
    asyncio.run(check_ends(separate, tenant))
