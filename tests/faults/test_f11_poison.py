"""F11: one poison record costs one dead letter and holds up nobody else."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import Producer

from raa_schemas.ids import owned
from tests.contract.test_kafka_faults import append_raw, batch_with_broken_header
from tests.faults.evidence import Seen
from tests.faults.load import Load, mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial

TIMES: Final = 50 if LONG else 2
GOOD: Final = 500 if LONG else 30
PER_SECOND: Final = 10
STALL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 30
_TEXT: Final = [("ce_id", b"x"), ("ce_type", b"task.created"), ("ce_subject", b"p")]


def poison() -> list[dict[str, Any]]:
    """Give one record of each kind that nobody can read as a task, as librdkafka sends it."""
    fresh = [("ce_id", uuid4().bytes.hex().encode()), *_TEXT[1:]]
    return [
        {"value": b"\xff\xfe\x00 not text"},
        {"value": json.dumps({"goal": "x"}).encode(), "headers": [*fresh, ("ce_tenant", b"\xff\xfe")]},
        {"value": json.dumps({"goal": "x" * 1_060_000}).encode()},
        {"value": b'{"goal": 7, "inputs": "all"}'},
        {"value": None},
        {"value": b'{"goal": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"},
        {"value": b"not json at all"},
        {"value": json.dumps({"goal": "x"}).encode(), "headers": [*fresh, ("ce_dataschema", b"task.created.v9.json")]},
    ]


def inject(trial: Trial) -> int:
    """Publish every kind of poison, a set a second, and batches that no client can decode; gives how many records."""
    settings = trial.house.settings
    topic = owned(settings.deployment, "task.created")
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "message.max.bytes": 2_000_000})
    for number in range(TIMES):
        time.sleep(1.0 if number else 0.0)
        for record in poison():
            producer.produce(topic, key=uuid4().hex, **record)
        assert producer.flush(30) == 0
        asyncio.run(append_raw(settings.kafka_bootstrap, topic, batch_with_broken_header(1)))
    return TIMES * (len(poison()) + 1)


async def under_poison(trial: Trial) -> tuple[Load, int]:
    """Submit good tasks all the time, and poison in between."""
    load = trial.load()
    good = mixed(GOOD, "good", ("calculate", "ledger.keyed"))
    trickling = asyncio.create_task(load.trickle(good, PER_SECOND))
    await asyncio.sleep(0.5)
    injected = await asyncio.to_thread(inject, trial)
    await trickling
    await load.until_ended()
    return load, injected


def slowest_admission(records: Sequence[Seen], deployment: str, tenant: str) -> float:
    """Give the most seconds a good task waited to be taken up."""
    at: dict[str, dict[str, float]] = {"task.created": {}, "task.status": {}}
    for record in records:
        first = at.get(record.topic.removeprefix(owned(deployment, "")))
        if first is not None and record.headers.get("ce_tenant") == tenant:
            task = record.headers["ce_subject"]
            first[task] = min(record.timestamp, first.get(task, record.timestamp))
    return max(at["task.status"][task] - created for task, created in at["task.created"].items())


async def letters(trial: Trial) -> Mapping[str, int]:
    """Count the dead letters by topic."""
    counts: dict[str, int] = {}
    for record in await trial.all_records():
        if record.topic.endswith(".dlq"):
            counts[record.topic] = counts.get(record.topic, 0) + 1
    return counts


def test_each_poison_record_costs_one_dead_letter_and_no_time_of_others(on_servers: Trial, report: list[Row]) -> None:
    before = asyncio.run(letters(on_servers))
    load, injected = asyncio.run(under_poison(on_servers))
    end = time.monotonic() + PATIENCE_SECONDS
    while (dead := _new(asyncio.run(letters(on_servers)), before)) < injected and time.monotonic() < end:
        time.sleep(0.2)
    verdict, records = asyncio.run(on_servers.verdict()), asyncio.run(on_servers.records())
    stall = slowest_admission(records, on_servers.house.settings.deployment, on_servers.tenant)
    figures = {"injected": injected, "dead_letters": dead, "tasks": len(load.ended), "stall_s": stall}
    report.append(Row("F11", "kafka+mongo+redis", f"{injected} poison records", figures, verdict.violations))
    assert verdict.violations == []
    assert dead == injected
    assert all(done.outcome == "succeeded" for done in load.ended.values())
    assert stall <= STALL_SECONDS


def _new(now: Mapping[str, int], before: Mapping[str, int]) -> int:
    return sum(now.values()) - sum(before.values())
