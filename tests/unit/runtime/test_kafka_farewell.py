"""Leaving Kafka never fails, whatever its client raises on the way out."""

import pytest
from aiokafka import AIOKafkaProducer

from raa_runtime.bus.kafka_publisher import _stop

pytestmark = pytest.mark.anyio


class Flustered(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka ships no types
    """A producer as it is when the broker died while batches were under way."""

    async def stop(self) -> None:
        raise KeyError("a batch that was failed is put back")


async def test_a_producer_that_fails_while_it_stops_fails_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    producer, closed = Flustered(bootstrap_servers="127.0.0.1:1"), []

    async def broken() -> None:
        raise AttributeError("'NoneType' object has no attribute 'done'")

    async def close() -> None:
        closed.append(True)

    monkeypatch.setattr(producer._sender, "close", broken)
    monkeypatch.setattr(producer.client, "close", close)
    await _stop(producer)
    assert closed == [True]
    producer._closed = True
