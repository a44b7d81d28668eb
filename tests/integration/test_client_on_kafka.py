"""The client over a real broker: it must not miss what happens while it still looks for the ends of the partitions."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raa_client.client import Client
from raa_client.connect import connect
from raa_client.following import Following
from raa_runtime.settings import ServiceSettings
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from tests.unit.client.told import recovery

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def _client(kafka: str, deployment: str, folder: Path) -> AsyncIterator[Client]:
    settings = ServiceSettings(bus="kafka", kafka_bootstrap=kafka, deployment=deployment, data=folder)
    async with connect(settings) as client:
        await client.bus.apply_topics(topic_specs(settings))
        yield client


async def _tell(client: Client, *events: object) -> None:
    """Publish one behind the other, as cause and effect are: a batch may leave its partitions in any order."""
    messages = [message_of(event, "default", client.deployment, f"e-{number}")  # type: ignore[arg-type]
                for number, event in enumerate(events)]  # fmt: skip
    for message in messages:
        assert await client.bus.publish([message]) == [None]


async def test_a_run_on_kafka_is_followed_to_its_end_however_soon_it_ends(kafka: str, deployment: str, tmp_path: Path):
    async with _client(kafka, deployment, tmp_path) as client:
        # All of it is there before the reader can have found its place: it has to go back for it.
        following = Following(client.bus, deployment, "default", "t1")
        seen = [one.envelope.type async for one in following.newly_submitted(lambda: _tell(client, *recovery()))]
        assert sorted(seen) == sorted(event.event_type() for event in recovery())


async def test_watching_and_result_on_kafka_find_what_is_there(kafka: str, deployment: str, tmp_path: Path):
    async with _client(kafka, deployment, tmp_path) as client:
        await _tell(client, *recovery())
        watched = [observed.envelope.type async for observed in client.watch("t1")]
        assert sorted(watched) == sorted(event.event_type() for event in recovery())
        assert (await client.result("t1", 10)).result == 2.5
