"""Consumers as this project sets them up, and how they are started, read and left."""

from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from raa_runtime.bus.kafka_connection import KafkaTuning, within
from raa_runtime.bus.port import Record
from raa_runtime.errors import TransientError

_CLOSE_SECONDS = 8.0
_FETCH_BYTES = 8 * 1024 * 1024
# aiokafka leaves the group silently when nobody polls for this long; a full house polls nothing and must stay
_NEVER_MS = 86_400_000
_EPOCH = datetime.fromtimestamp(0, UTC)


async def start_consumer(
    options: dict[str, Any], tuning: KafkaTuning, group: str | None, instance: str | None = None
) -> AIOKafkaConsumer:
    """Connect a consumer without topics, as the static member `instance` if there is one.

    Raises DependencyUnavailable.
    """
    consumer = _build(options, tuning, group, instance)
    try:
        await within(tuning.call_timeout, consumer.start(), "connecting a consumer")
    except BaseException:
        await close_consumer(consumer)
        raise
    return consumer


def _build(options: dict[str, Any], tuning: KafkaTuning, group: str | None, instance: str | None) -> AIOKafkaConsumer:
    """Build a consumer that commits nothing by itself and starts at the earliest record."""
    return AIOKafkaConsumer(
        **options,
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=(RangePartitionAssignor,),
        heartbeat_interval_ms=int(tuning.heartbeat * 1000),
        session_timeout_ms=int(tuning.session * 1000),
        rebalance_timeout_ms=int(tuning.rebalance * 1000),
        max_poll_interval_ms=_NEVER_MS,
        metadata_max_age_ms=int(tuning.metadata_age * 1000),
        fetch_max_bytes=_FETCH_BYTES,
    )


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave and disconnect; a broker that is away costs 8 seconds, never more."""
    try:
        await within(_CLOSE_SECONDS, consumer.stop(), "leaving")
    except TransientError:
        # stop() gave up half way and would leave sockets and a task behind
        try:
            await within(1.0, consumer._client.close(), "disconnecting")
        except TransientError:
            return


def to_record(fetched: Any) -> Record:
    """Copy a record out of the client's own type."""
    return Record(
        fetched.topic,
        fetched.partition,
        fetched.offset,
        _instant(fetched.timestamp),
        fetched.key,
        fetched.value,
        fetched.headers,
    )


def _instant(milliseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return _EPOCH  # any client may write any number
