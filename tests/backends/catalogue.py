"""The backends by the names that RAA_TEST_REQUIRE and the command line use."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.backends.kafka import kafka
from tests.backends.mongo import mongo
from tests.backends.postgres import postgres
from tests.backends.process import Server
from tests.backends.redis import redis
from tests.backends.s3 import s3
from tests.backends.toxiproxy import toxiproxy

BACKENDS: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "kafka": kafka,
    "mongo": mongo,
    "postgres": postgres,
    "redis": redis,
    "s3": s3,
    "toxiproxy": toxiproxy,
}
