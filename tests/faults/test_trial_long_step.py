"""A step longer than any interval: what follows on its partition is read and acknowledged, and nobody rebalances."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from raa_schemas.ids import owned
from tests.faults.evidence import Seen
from tests.faults.judged import check, judged
from tests.faults.load import mixed, planned
from tests.faults.report import LONG, Row
from tests.faults.test_f05_long_step import members
from tests.faults.trial import Trial, separate, until

pytestmark = pytest.mark.patient

POLL_SECONDS: Final = 2.0
STEP_SECONDS: Final = 1_200.0 if LONG else 20.0
OTHERS: Final = 100_000 if LONG else 5_000
STEP: Final = "step.ready"


async def ready_of(trial: Trial, task: str, step: str) -> Seen:
    """Find the record that lets a step begin."""
    topic = owned(trial.house.settings.deployment, STEP)
    while True:
        for record in await trial.records():
            if record.topic == topic:
                body = json.loads(record.value or b"{}")
                if (body["task_id"], body["step"]) == (task, step):
                    return record
        await asyncio.sleep(0.2)


def crowd(trial: Trial, place: int, record: Seen) -> None:
    """Tell a settled step again and again on one partition."""
    settings = trial.house.settings
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "queue.buffering.max.messages": OTHERS + 1})
    headers: Any = [(name, text.encode()) for name, text in record.headers.items()]
    for _ in range(OTHERS):
        producer.produce(record.topic, record.value, "again", partition=place, headers=headers)
    assert producer.flush(120) == 0


def unread(trial: Trial, place: int) -> int:
    """Count what the executors have not acknowledged on one partition."""
    settings = trial.house.settings
    group, topic = owned(settings.deployment, "executor"), owned(settings.deployment, STEP)
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, place)])
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    told = next(iter(admin.list_consumer_group_offsets([asked]).values())).result().topic_partitions[0].offset
    reader = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": "looks"})
    try:
        end = reader.get_watermark_offsets(TopicPartition(topic, place), timeout=10)[1]
    finally:
        reader.close()
    return int(end) - max(int(told), 0)


async def beside_it(trial: Trial) -> dict[str, float]:
    """Let a long step run, crowd its partition, and see the crowd read while it runs."""
    load = trial.load()
    await load.submit([planned("short", "ledger.keyed"), *mixed(3, "first")])
    await load.until_ended()
    before = members(trial)
    await load.submit([planned("long", "ledger.keyed", seconds=STEP_SECONDS)])
    await until(lambda: any(call.task == "long" for call in trial.calls()))
    begun = time.monotonic()
    place = (await ready_of(trial, "long", "act")).partition
    settled = await ready_of(trial, "short", "act")
    await asyncio.to_thread(crowd, trial, place, settled)
    while await asyncio.to_thread(unread, trial, place):
        assert time.monotonic() - begun < STEP_SECONDS, "what followed the long step waits for it"
        await asyncio.sleep(0.2)
    read_after = time.monotonic() - begun
    assert "long" not in load.ended
    await load.until_ended(seconds=STEP_SECONDS + 60)
    after = members(trial)
    rebalances = sum(after[name] != before[name] for name in before)
    return {"step_s": STEP_SECONDS, "others": OTHERS, "others_read_s": read_after, "rebalances": rebalances}


def test_what_follows_a_long_step_on_its_partition_does_not_wait_for_it(
    place: Path, kafka: str, mongo: str, redis_url: str, report: list[Row]
) -> None:
    with separate(
        place,
        deployment=f"f{uuid4().hex[:8]}",
        kafka=kafka,
        mongo=mongo,
        redis_url=redis_url,
        test_short_poll=str(POLL_SECONDS),
        test_tool_seconds=str(STEP_SECONDS * 2),
    ) as trial:
        trial.house.start()
        figures = asyncio.run(beside_it(trial))
        injected = f"poll interval {POLL_SECONDS:g} s, lease 3 s"
        row = asyncio.run(judged(trial, "long step", "kafka+mongo+redis", injected, **figures))
    report.append(row)
    check(row, 5)
    assert row.figures["rebalances"] == 0
    assert row.figures["keyed_repeats"] == row.figures["unknown_outcomes"] == 0
