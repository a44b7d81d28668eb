"""Who may speak to a secured broker, and what the others are told."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from pydantic import SecretStr

from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.kafka_connection import KafkaSecurity, KafkaTuning, faststream_broker
from raa_runtime.errors import DependencyUnavailable, Misconfigured, PublishRefused
from raa_runtime.settings import ServiceSettings
from tests.contract.bus_client import group_of, join, message, settle, take, topic
from tests.contract.secured_kafka import USERS, Secured, secured_kafka
from tests.faults.footprint import open_files

pytestmark = pytest.mark.anyio
QUICK = KafkaTuning(heartbeat=0.3, call_timeout=3.0)


@pytest.fixture(scope="module")
def secured(kafka: str) -> Iterator[Secured]:  # kafka: or skip
    with TemporaryDirectory(prefix="raa-secured-") as folder, secured_kafka(Path(folder)) as broker:
        yield broker


def security(secured: Secured, user: str = "writer", **changes: Any) -> KafkaSecurity:
    values = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": user, "password": USERS[user],
              "ca_file": str(secured.authority)}  # fmt: skip
    return KafkaSecurity.from_settings(values | changes)


def allow(secured: Secured, user: str, operation: AclOperation, kind: ResourceType, prefix: str) -> None:
    binding = AclBinding(kind, prefix, ResourcePatternType.PREFIXED, f"User:{user}", "*", operation,
                         AclPermissionType.ALLOW)  # fmt: skip
    operator = AdminClient({"bootstrap.servers": secured.admin})
    for answer in operator.create_acls([binding]).values():
        answer.result(20)


async def test_a_principal_with_its_rights_publishes_and_consumes_over_scram_and_tls(secured: Secured, deployment: str):
    for kind in (ResourceType.TOPIC, ResourceType.GROUP):
        await asyncio.to_thread(allow, secured, "writer", AclOperation.ALL, kind, deployment)
    bus = KafkaBus(secured.bootstrap, security=security(secured), tuning=QUICK)
    await bus.start()
    name = f"{deployment}.task.created"
    await bus.apply_topics([topic(name, 1)])
    member = await join(bus, "g", [name])
    await settle(member, partitions=1)
    assert await bus.publish([message(name, "a", '{"goal": "add"}')]) == [None]
    await take(member, 1)
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    broker = faststream_broker(secured.bootstrap, security(secured))

    @broker.subscriber(name, group_id=group_of("theirs", name), auto_offset_reset="earliest")
    async def on_task_created(body: dict[str, Any]) -> None:
        await received.put(body)

    async with broker, asyncio.timeout(30):
        await broker.start()
        assert await received.get() == {"goal": "add"}
    await bus.stop()


async def test_a_principal_without_the_right_to_write_is_refused_and_told(secured: Secured, deployment: str):
    owner = KafkaBus(secured.admin, tuning=QUICK)
    await owner.start()
    hidden, readable, own = f"{deployment}.hidden", f"{deployment}.readable", f"{deployment}.own"
    await owner.apply_topics([topic(name, 1) for name in (hidden, readable, own)])
    await owner.stop()
    await asyncio.to_thread(allow, secured, "nobody", AclOperation.READ, ResourceType.TOPIC, readable)
    await asyncio.to_thread(allow, secured, "nobody", AclOperation.WRITE, ResourceType.TOPIC, own)
    bus = KafkaBus(secured.bootstrap, security=security(secured, "nobody"), tuning=QUICK)
    await bus.start()
    batch = [message(name, "a", "x") for name in (hidden, readable, own)]
    for _ in range(2):
        verdicts = await bus.publish(batch)
        assert [type(verdict) for verdict in verdicts] == [PublishRefused, PublishRefused, type(None)]
    with pytest.raises(Misconfigured, match="cannot be created"):
        await bus.apply_topics([topic(f"{deployment}.new", 1)])
    await bus.stop()


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"ca_file": None}])
async def test_a_wrong_password_or_an_unknown_authority_is_refused_at_start(secured: Secured, changes: dict[str, Any]):
    bus = KafkaBus(secured.bootstrap, security=security(secured, **changes), tuning=QUICK)
    before = open_files(os.getpid())
    with pytest.raises(DependencyUnavailable):
        await bus.start()
    async with asyncio.timeout(10):
        while open_files(os.getpid()) > before:  # noqa: ASYNC110  # TLS says goodbye before it closes
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("wrong", [
    {"protocol": "TLS"}, {"mechanism": "GSSAPI"}, {"user": "x"}, {"protocol": "SSL", "ca_file": "/nowhere.pem"},
])  # fmt: skip
def test_wrong_settings_are_refused_without_repeating_the_password(wrong: dict[str, str]):
    settings = ServiceSettings(kafka_security={"password": "s3cret"} | wrong)
    with pytest.raises(Misconfigured, match="RAA_KAFKA_SECURITY") as caught:
        KafkaBus.from_settings(settings)
    assert "s3cret" not in str(caught.value)


def test_a_password_is_not_printed():
    described = KafkaSecurity(password=SecretStr("s3cret"))
    assert "s3cret" not in repr(described)
    assert "s3cret" not in json.dumps(described.model_dump(mode="json"))
