"""What a client does with a deployment in these tests: give it tasks, and read everything that was said about one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from raa_client.client import Client
from raa_client.connect import connect
from raa_client.observed import Observed, observe, reading
from raa_schemas.ids import owned
from raa_schemas.task import TaskCreated, TaskDone
from raa_schemas.topics import TOPICS
from tests.e2e.house import House

DATA = Path(__file__).parents[2] / "examples" / "data"
AIR = DATA / "AirQualityUCI.csv"
WINES = [DATA / "winequality-red.csv", DATA / "winequality-white.csv"]
REPORT = "Compare the mean alcohol of winequality-red.csv and winequality-white.csv and write report.md"
PATIENCE_SECONDS = 60
Stories = Callable[[House], dict[str, list[Observed]]]


def task(task_id: str, goal: str, **given: Any) -> TaskCreated:
    return TaskCreated.model_validate({"task_id": task_id, "goal": goal} | given)


async def give(client: Client, task: TaskCreated, files: Sequence[Path] = ()) -> None:
    """Submit a task with files."""
    inputs = [await client.attach(task.task_id or "", path) for path in files]
    await client.submit(task.model_copy(update={"inputs": inputs}) if inputs else task)


async def run(house: House, task: TaskCreated, files: Sequence[Path] = (), tenant: str = "default") -> TaskDone:
    """Submit a task with files and wait for its end."""
    async with connect(house.settings, tenant) as client:
        await give(client, task, files)
        return await client.result(task.task_id or "", PATIENCE_SECONDS)


async def told(house: House, task_id: str, tenant: str) -> list[Observed]:
    """Read all events of a task, the internal ones too, each once."""
    topics = [owned(house.settings.deployment, name) for name in TOPICS]
    async with (
        connect(house.settings, tenant) as client,
        reading(client.bus, topics, from_beginning=True, follow=False) as records,
    ):
        found = [observe(record, house.settings.deployment, tenant=tenant, task_id=task_id) async for record in records]
    return list({event.id: event for event in found if event}.values())


async def ends(house: House, tenant: str) -> dict[str, set[str]]:
    """Give the ids of the task.done events of a tenant, by task."""
    found: dict[str, set[str]] = {}
    topic = owned(house.settings.deployment, TaskDone.event_type())
    async with connect(house.settings, tenant) as client:
        async for event in client.tail(topic, from_beginning=True, follow=False):
            if event.tenant == tenant:
                found.setdefault(event.envelope.subject, set()).add(event.id)
    return found


async def six_runs(house: House) -> dict[str, list[Observed]]:
    """Do the demo's tasks: 1 to 5 one after the other in one tenant, 6 in a fresh one; gives the events of each."""
    acme, fresh, checked = f"a{uuid4().hex[:8]}", f"f{uuid4().hex[:8]}", {"success_check": "result >= 0"}
    off = {"constraints": {"memory": "off"}}
    plan = [
        ("1", acme, task("run-1", "Average of CO(GT) in AirQualityUCI.csv", **checked), [AIR]),
        ("2", acme, task("run-2", "Average of C6H6(GT) in AirQualityUCI.csv", **checked), [AIR]),
        ("3", acme, task("run-3", "Average of C6H6(GT) in AirQualityUCI.csv", **checked, **off), [AIR]),
        ("4", acme, task("run-4", REPORT), WINES),
        ("5", acme, task("run-5", "Average of precipitation in seattle-weather.csv"), [DATA / "seattle-weather.csv"]),
        ("6", fresh, task("run-6", "Average of CO(GT) in AirQualityUCI.csv"), [AIR]),
    ]
    found = {}
    for number, tenant, given, files in plan:
        await run(house, given, files, tenant)
        found[number] = await told(house, given.task_id or "", tenant)
    return found
