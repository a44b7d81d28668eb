"""An audit trail of every step that ended: a service of one's own on raa's bus, built with FastStream.

What it does for "nothing is lost, nothing is kept twice":

- It acknowledges by hand, after its own write is on disk. FastStream's default acknowledges before the handler runs.
- An acknowledgement commits everything fetched so far, not one record. So records are handled one after another, and
  if one could not be kept, the process ends: handling the next would acknowledge past it. Whoever supervises the
  process starts it again, and it goes on with that record.
- The same event may come twice; the event id is the primary key, so that the second changes nothing.
- A record that nobody can read goes, as it was, to a dead-letter topic, and is acknowledged when it lies there.

    RAA_KAFKA_BOOTSTRAP=127.0.0.1:9092 AUDIT_FILE=audit.sqlite python examples/faststream_audit/audit.py
"""

import asyncio
import os
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord
from faststream import AckPolicy, FastStream
from faststream.kafka.annotations import KafkaMessage
from pydantic import ValidationError

from raa_runtime.bus.kafka import KafkaBus
from raa_runtime.bus.kafka_connection import KafkaSecurity, faststream_broker
from raa_runtime.bus.port import Message, TopicSpec
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned
from raa_schemas.step import StepDone

NOT_KEPT = 75
LOCK_SECONDS = 2.0
DEAD_LETTER_BYTES = 2 * 1024 * 1024
settings = ServiceSettings.from_env(os.environ, bus="kafka")
topic, group = owned(settings.deployment, "step.done"), owned(settings.deployment, "audit")
dead_letters = owned(settings.deployment, "audit.dlq")
bus = KafkaBus.from_settings(settings)
broker = faststream_broker(settings.kafka_bootstrap, KafkaSecurity.from_settings(settings.kafka_security))
app = FastStream(broker)


class Trail:
    """The audit trail: one SQLite file, each row on disk before `keep` returns."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        self._db.execute("PRAGMA synchronous=FULL")
        columns = "event_id TEXT PRIMARY KEY, tenant TEXT, task TEXT, step TEXT, outcome TEXT"
        self._db.execute(f"CREATE TABLE IF NOT EXISTS steps ({columns})")

    def keep(self, event_id: str, tenant: str, event: StepDone) -> None:
        """Write a step's end; the second time this changes nothing."""
        row = (event_id, tenant, event.task_id, event.step, event.outcome)
        self._db.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


trail = Trail(Path(os.environ.get("AUDIT_FILE", "audit.sqlite")))


async def as_it_lies(record: "ConsumerRecord[bytes, bytes]", original: Any) -> Any:
    """Parse without the headers: FastStream skips a record, with its log as the only trace, if one is no UTF-8."""
    message = await original(replace(record, headers=()))
    message.raw_message = record
    return message


async def undecoded(message: KafkaMessage) -> bytes:
    """Leave the value to the handler: what the decoder raises would skip the record."""
    return message.body if isinstance(message.body, bytes) else b""


@app.on_startup
async def open_bus() -> None:
    """Connect what dead letters are written with."""
    await bus.start()
    replicas, month = settings.kafka_replication, timedelta(days=30)
    spec = TopicSpec(dead_letters, 1, replicas, month, compacted=False, max_message_bytes=DEAD_LETTER_BYTES)
    await bus.apply_topics([spec])


@app.after_shutdown
async def close_bus() -> None:
    """Disconnect."""
    await bus.stop()


@broker.subscriber(
    topic,
    group_id=group,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.MANUAL,
    parser=as_it_lies,
    decoder=undecoded,
)
async def on_step_done(value: bytes, message: KafkaMessage) -> None:
    """Keep one record, or bury it; acknowledge it only then."""
    kept = False
    try:
        await keep_or_bury(value, message.raw_message)
        await message.ack()
        kept = True
    finally:
        if not kept:  # whatever it was, the next record must not be acknowledged over this one
            os._exit(NOT_KEPT)


async def keep_or_bury(value: bytes, record: Any) -> None:
    """Write the event to the trail; what is none goes to the dead letters with its bytes, key and headers."""
    try:
        headers = {name: (raw or b"").decode() for name, raw in record.headers}
        event = StepDone.model_validate_json(value)
        event_id = headers["ce_id"]
    except (UnicodeDecodeError, ValidationError, KeyError) as problem:
        await bury(value, record, problem)
    else:
        trail.keep(event_id, headers.get("ce_tenant", "default"), event)


async def bury(value: bytes, record: Any, problem: Exception) -> None:
    """Publish a dead letter and wait until it is durable; raises if it is not."""
    why = (
        ("dl_reason", f"{type(problem).__name__}: {problem}"[:1000].encode()),
        ("dl_topic", record.topic.encode()),
        ("dl_partition", str(record.partition).encode()),
        ("dl_offset", str(record.offset).encode()),
    )
    original = tuple((name, raw or b"") for name, raw in record.headers)
    (refused,) = await bus.publish([Message(dead_letters, record.key or b"", value, (*original, *why))])
    if refused is not None:
        raise refused


if __name__ == "__main__":
    asyncio.run(app.run())
