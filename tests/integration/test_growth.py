"""The command `raa topics grow` on a real broker: refused while anybody reads or anything waits, in order later."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from raa_cli.execute import CommandFailed, UsageProblem
from raa_cli.growth import Growth, grow
from raa_cli.lag import lag
from raa_cli.session import Place
from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.kafka_connection import KafkaTuning
from raa_runtime.bus.port import Record
from raa_runtime.topics import topic_specs
from raa_schemas.topics import TOPICS
from tests.contract.bus_client import Member, behind, message, take

pytestmark = pytest.mark.anyio
FAST = KafkaTuning(heartbeat=0.3)
KEYS = [f"default/task-{number}" for number in range(12)]


@pytest.fixture
def place(kafka: str, deployment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("RAA_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("RAA_DEPLOYMENT", deployment)
    monkeypatch.setenv("RAA_KAFKA_PARTITIONS", "2")
    return Place(tmp_path, "kafka")


async def _grow(place: Place, partitions: int, **how: Any) -> None:
    await grow(place, Growth(partitions, **how), tools=(), model=None, as_json=False)


async def _read_all(bus: KafkaBus, deployment: str, count: Mapping[str, int]) -> list[Record]:
    """Read as each service would, and commit; returns the records of task.created as the planner saw them."""
    seen: list[Record] = []
    for service, expected in count.items():
        member = Member()
        topics = [f"{deployment}.{topic.name}" for topic in TOPICS.values() if service in topic.readers]
        member.subscription = await bus.subscribe(f"{deployment}.{service}", topics, member)
        records = await take(member, expected)
        await member.subscription.commit(behind(records))
        await member.subscription.close()
        seen += records if service == "planner" else []
    return seen


async def test_keys_keep_their_order_when_topics_grow_and_nothing_grows_before_all_is_read(
    kafka: str, deployment: str, place: Place, capsys: pytest.CaptureFixture[str]
):
    created, count = f"{deployment}.task.created", {"planner": 36, "reflector": 36}
    bus = KafkaBus(kafka, tuning=FAST)
    await bus.start()
    await bus.apply_topics(topic_specs(place.settings()))
    await bus.publish([message(created, key, str(number)) for number in range(3) for key in KEYS])
    with pytest.raises(CommandFailed, match="has 36 unread records"):
        await _grow(place, 5)
    await lag(place, ["planner"], [], everything=False, watch_seconds=None, as_json=False, terminal=False)
    assert f"{created}  0" in capsys.readouterr().out
    seen = await _read_all(bus, deployment, count)

    reader = Member()
    reader.subscription = await bus.subscribe(f"{deployment}.planner", [created], reader)
    async with asyncio.timeout(30):
        while not reader.held:
            await reader.subscription.poll(1, 0.1)
    with pytest.raises(CommandFailed, match="has 1 member; stop what reads"):
        await _grow(place, 5)
    await reader.subscription.close()
    await bus.stop()

    await _grow(place, 5, dry_run=True)
    assert "would get 5 partitions (2 now)" in capsys.readouterr().out
    await _grow(place, 5)
    assert "have 5 partitions now (2 before)" in capsys.readouterr().out

    again = KafkaBus(kafka, tuning=FAST)
    await again.start()
    assert (await again.topics())[created] == 5
    await again.publish([message(created, key, str(number)) for number in range(3, 6) for key in KEYS])
    seen += await _read_all(again, deployment, count)
    await again.stop()
    for key in KEYS:
        assert [int(record.value or b"") for record in seen if record.key == key.encode()] == list(range(6))
    assert {record.partition for record in seen} > {0, 1}, "no key moved, so that nothing was shown"


async def test_a_drain_of_kafka_is_explained_not_tried(place: Place):
    with pytest.raises(UsageProblem, match="stop the clients, wait until `raa lag` shows nothing"):
        await _grow(place, 5, drain=True)
    with pytest.raises(CommandFailed, match="there are no topics of events"):
        await _grow(place, 5)
