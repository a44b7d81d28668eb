"""The example service built with FastStream, on a real broker: nothing lost, nothing twice, poison set aside."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.port import Message, Record
from raa_runtime.settings import ServiceSettings
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_schemas.step import StepDone
from tests.source_tree import ROOT

pytestmark = pytest.mark.anyio
AUDIT = ROOT / "examples" / "faststream_audit" / "audit.py"
NOT_KEPT = 75
PATIENCE_SECONDS = 40.0


class Service:
    """The example in a process of its own."""

    def __init__(self, kafka: str, deployment: str, trail: Path) -> None:
        self.deployment, self.trail = deployment, trail
        self._environment = os.environ | {
            "RAA_KAFKA_BOOTSTRAP": kafka,
            "RAA_DEPLOYMENT": deployment,
            "AUDIT_FILE": str(trail),
        }

    @contextlib.contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        log = (self.trail.parent / "audit.log").open("ab")
        with log, subprocess.Popen([sys.executable, AUDIT], env=self._environment, stderr=log, stdout=log) as process:
            try:
                yield process
            finally:
                process.kill()

    def kept(self) -> list[str]:
        """The tasks in the trail, one for each row."""
        if not self.trail.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{self.trail}?mode=ro", uri=True)) as db:
            try:
                return sorted(row[0] for row in db.execute("SELECT task FROM steps"))
            except sqlite3.OperationalError:
                return []  # it has no table yet

    def said(self) -> str:
        return (self.trail.parent / "audit.log").read_text()


@pytest.fixture
def service(kafka: str, deployment: str, tmp_path: Path) -> Service:
    return Service(kafka, deployment, tmp_path / "trail.sqlite")


@pytest.fixture
async def bus(kafka: str, deployment: str) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(kafka)
    await bus.start()
    settings = ServiceSettings(deployment=deployment, bus="kafka")
    await bus.apply_topics([spec for spec in topic_specs(settings) if spec.name.endswith("step.done")])
    yield bus
    await bus.stop()


def _ended(number: int, deployment: str) -> Message:
    event = StepDone(
        task_id=f"t{number:03}",
        plan_version=1,
        step="mean",
        tool="calculate",
        attempt=1,
        run_seq=1,
        outcome="succeeded",
        epoch=1,
        run_status="succeeded",
        args_hash="sha256:0",
        effect="read",
    )
    return message_of(event, "default", deployment, f"event-{number}")


async def _publish(bus: KafkaBus, messages: list[Message]) -> None:
    assert await bus.publish(messages) == [None] * len(messages)


async def _until(holds: Callable[[], bool], service: Service) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110  # what is waited for is another process's
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"it did not come to that; the service said: {service.said()[-3000:]}")


async def test_a_kill_and_a_restart_lose_nothing_and_keep_nothing_twice(bus: KafkaBus, service: Service):
    everything = [f"t{number:03}" for number in range(200)]
    with service.running() as process:
        await _publish(bus, [_ended(number, service.deployment) for number in range(100)])
        await _until(lambda: len(service.kept()) >= 30, service)
        process.send_signal(signal.SIGKILL)
        process.wait()
    await _publish(bus, [_ended(number, service.deployment) for number in range(50, 200)])  # some for the second time
    with service.running() as process:
        await _until(lambda: len(service.kept()) >= 200, service)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert service.kept() == everything


async def test_poison_becomes_a_dead_letter_as_it_was_and_the_records_behind_it_are_kept(
    bus: KafkaBus, service: Service
):
    topic = f"{service.deployment}.step.done"
    key = _ended(1, service.deployment).key  # all in one partition, the poison in front
    poison = [
        Message(topic, key, b"\x00\xff no json", (("ce_id", b"p1"), ("content-type", b"application/json"))),
        Message(topic, key, _ended(1, service.deployment).value, (("ce_id", b"\xff\xfe"),)),
        Message(topic, key, b'{"task_id": "t001"}', (("ce_id", b"p3"),)),
    ]
    await _publish(bus, [*poison, _ended(1, service.deployment)])
    with service.running():
        await _until(lambda: service.kept() == ["t001"], service)
    letters: list[Record] = [
        record async for record in bus.read([f"{service.deployment}.audit.dlq"], from_beginning=True, follow=False)
    ]
    assert [(letter.key, letter.value, dict(letter.headers)["ce_id"]) for letter in letters] == [
        (message.key, message.value, dict(message.headers)["ce_id"]) for message in poison
    ]
    reasons = [dict(letter.headers)["dl_reason"] or b"" for letter in letters]
    assert [reason.split(b":")[0] for reason in reasons] == [
        b"ValidationError",
        b"UnicodeDecodeError",
        b"ValidationError",
    ]


async def test_what_cannot_be_kept_is_not_acknowledged(bus: KafkaBus, service: Service):
    with service.running() as process:
        await _publish(bus, [_ended(0, service.deployment)])
        await _until(lambda: service.kept() == ["t000"], service)
        with contextlib.closing(sqlite3.connect(service.trail, isolation_level=None)) as full:
            full.execute("BEGIN EXCLUSIVE")  # the disk, as it were, takes nothing
            await _publish(bus, [_ended(number, service.deployment) for number in range(1, 20)])
            assert await asyncio.to_thread(process.wait, 30) == NOT_KEPT
    with service.running():
        await _until(lambda: len(service.kept()) == 20, service)
