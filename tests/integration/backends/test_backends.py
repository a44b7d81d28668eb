"""The servers that other integration tests stand on do what those rely on."""

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from obstore.store import S3Store
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError
from redis.asyncio import Redis

from tests.backends import mongo as mongo_server
from tests.backends import redis as redis_server
from tests.backends.process import BackendFailed, answers, serve
from tests.backends.s3 import ACCESS_KEY, BUCKET
from tests.source_tree import ROOT
from tests.waiting import wait_until


async def _produced_and_consumed(bootstrap: str, topic: str) -> object:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(topic, b"first")
    await producer.stop()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=topic)
    await consumer.start()
    record = await asyncio.wait_for(consumer.getone(), timeout=20)
    await consumer.stop()
    return record.value


def test_kafka_carries_a_record_through_an_idempotent_producer_and_a_group(kafka: str, deployment: str) -> None:
    assert asyncio.run(_produced_and_consumed(kafka, deployment)) == b"first"


def test_mongo_names_the_loser_of_a_conditional_upsert(mongo: str, deployment: str) -> None:
    async def race() -> None:
        async with AsyncMongoClient[dict[str, object]](mongo) as client:
            table = client["tests"][deployment]
            await table.insert_one({"_id": "a", "version": 2})
            with pytest.raises(DuplicateKeyError):
                await table.update_one({"_id": "a", "version": 1}, {"$set": {"version": 2}}, upsert=True)

    asyncio.run(race())


def test_mongo_keeps_what_it_acknowledged_through_a_kill(mongo: str, tmp_path: Path) -> None:
    async def insert(uri: str) -> None:
        async with AsyncMongoClient[dict[str, object]](uri) as client:
            await client["tests"]["kept"].insert_one({"_id": "a"})

    async def count(uri: str) -> int:
        async with AsyncMongoClient[dict[str, object]](uri) as client:
            return await client["tests"]["kept"].count_documents({})

    with mongo_server.mongo(tmp_path) as server:
        asyncio.run(insert(server.address))
        server.kill()
    with mongo_server.mongo(tmp_path) as server:
        assert asyncio.run(count(server.address)) == 1


def test_redis_runs_a_lua_script(redis_url: str, deployment: str) -> None:
    async def result() -> object:
        async with Redis.from_url(redis_url) as client:
            return await client.eval("return redis.call('incrby', KEYS[1], ARGV[1])", 1, deployment, 3)

    assert asyncio.run(result()) == 3


def test_a_server_does_not_take_the_port_of_another_for_its_own(redis_url: str, tmp_path: Path) -> None:
    port = urlsplit(redis_url).port
    with pytest.raises(BackendFailed, match="already listens"), redis_server.redis(tmp_path, port=port):
        pass


def test_s3_refuses_a_conditional_create_of_what_exists(s3: str, deployment: str) -> None:
    store = S3Store(
        BUCKET,
        endpoint=s3,
        access_key_id=ACCESS_KEY,
        secret_access_key=ACCESS_KEY,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    obstore.put(store, deployment, b"once", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, deployment, b"twice", mode="create")


def test_a_server_that_ends_at_once_fails_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(BackendFailed, match="no such option"),
        serve(["/bin/sh", "-c", "echo no such option; exit 3"], address="", folder=tmp_path, ready=lambda: False),
    ):
        pass


def test_a_run_that_is_killed_leaves_no_server_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.backends", "redis", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        port = urlsplit(run.stdout.readline().partition("=")[2]).port
        assert port is not None
        assert answers(port)
        run.kill()
    wait_until(lambda: not answers(port), seconds=10)
