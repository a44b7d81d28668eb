"""Tasks recorded on Kafka are replayed from its topics, which are only read, and without a consumer group."""

import asyncio
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from raa_cli.replay.change import Change
from raa_cli.replay.run import Asked, read_gates, replay, whatif
from raa_cli.replay.selection import Selection
from raa_cli.session import Place
from raa_cli.stack import Stack
from raa_client.client import Client
from raa_client.connect import connect
from raa_schemas.ids import owned
from raa_schemas.task import TaskDone
from raa_schemas.topics import TOPICS
from tests.integration.recorded_tasks import AIR, DATA, mean, told

TASKS = ("learns", "uses")


@pytest.fixture
def recorded(kafka: str, deployment: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Place, TaskDone]:
    """Two tasks on Kafka, the second with the lessons of the first; the services have stopped."""
    variables = {"RAA_KAFKA_BOOTSTRAP": kafka, "RAA_DEPLOYMENT": deployment, "RAA_KAFKA_PARTITIONS": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    async def run() -> TaskDone:
        async with Stack(data_folder, bus="kafka", environment=variables, drain_seconds=1) as stack:
            await stack.ready(60)
            client = Client(stack.bus, stack.blobs, deployment=deployment)
            for name, column in zip(TASKS, ("CO(GT)", "C6H6(GT)"), strict=True):
                inputs = [await client.attach(name, DATA / AIR)]
                await client.submit(mean(column, task_id=name).model_copy(update={"inputs": inputs}))
                await client.result(name, 120)
            return await client.result(TASKS[-1])

    return Place(data_folder, "kafka"), asyncio.run(run())


async def _seen(kafka: str, place: Place) -> tuple[dict[object, int], set[str]]:
    """Give the ends of all topics of the deployment, and the groups the broker knows."""
    settings = place.settings()
    async with connect(settings) as client:
        ends = await client.bus.end_offsets([owned(settings.deployment, name) for name in TOPICS])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    groups = {name for name, *_ in await admin.list_consumer_groups()}
    await admin.close()
    return dict(ends), groups


def test_what_is_recorded_on_kafka_is_decided_again_and_nothing_is_written(
    kafka: str, recorded: tuple[Place, TaskDone], capsys: pytest.CaptureFixture[str]
):
    place, uses = recorded
    before = asyncio.run(_seen(kafka, place))
    assert asyncio.run(replay(Asked(place, Selection(TASKS), Change(), as_json=True))) == 0
    assert [task["state"] for task in told(capsys.readouterr().out)["tasks"]] == ["same", "same"]
    for withheld in uses.lessons_used:
        change = Change("lesson", withheld, frozenset({"model", "reads"}))
        asyncio.run(whatif(Asked(place, Selection(["uses"]), change, gates=read_gates(()), as_json=True)))
        (task,) = told(capsys.readouterr().out)["tasks"]
        assert task["state"] == "changed"
    assert asyncio.run(_seen(kafka, place)) == before
