"""Three brokers of which one may die, and a proxy that spoils connections: what the fault tests stand on."""

import socket
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.backends.kafka_cluster import kafka_cluster
from tests.backends.toxiproxy import Proxy

pytestmark = pytest.mark.anyio


async def test_a_cluster_of_three_takes_what_is_acknowledged_by_all_while_one_broker_is_dead(
    kafka: str, tmp_path: Path
) -> None:
    assert kafka  # a machine that can run one broker can run three
    with kafka_cluster(tmp_path / "cluster") as cluster:
        admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("t", 3, 3)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", metadata_max_age_ms=500)
        await producer.start()
        cluster.brokers[0].kill()
        offsets = [(await producer.send_and_wait("t", b"x", partition=number % 3)).offset for number in range(9)]
        cluster.restart(0)
        await producer.send_and_wait("t", b"x", partition=0)
        await producer.stop()
    assert offsets == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_proxy_delays_swallows_cuts_and_heals(toxiproxy: str, redis_url: str) -> None:
    upstream = redis_url.removeprefix("redis://").removesuffix("/0")
    proxy = Proxy.between(toxiproxy, f"redis-{upstream}", upstream)
    assert _ping(proxy.port) == b"+PONG\r\n"

    fault = proxy.fault("latency", latency=300)
    begun = time.monotonic()
    assert _ping(proxy.port) == b"+PONG\r\n"
    assert time.monotonic() - begun >= 0.25
    proxy.heal(fault)

    fault = proxy.fault("timeout", timeout=0)
    with pytest.raises(TimeoutError):
        _ping(proxy.port)
    proxy.heal(fault)

    fault = proxy.fault("limit_data", bytes=3)
    assert _ping(proxy.port) == b"+PO"
    proxy.heal(fault)

    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        _ping(proxy.port)
    proxy.open()
    assert _ping(proxy.port) == b"+PONG\r\n"


def _ping(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(100)
