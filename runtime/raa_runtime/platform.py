"""What services stand on: one bus, blobs, one HTTP session, a clock; opened once per process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from raa_runtime.blobs import BlobStore, open_blobs
from raa_runtime.bus.port import Bus
from raa_runtime.clock import Clock, SystemClock
from raa_runtime.kv import InProcessKeyValue, KeyValue
from raa_runtime.scope import TenantScope
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.port import DocumentStore
from raa_runtime.telemetry import Logger, logger

if TYPE_CHECKING:
    import aiohttp
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass
class Platform:
    """The floor under the services of one process."""

    deployment: str
    data: Path
    bus: Bus
    blobs: BlobStore
    http: "aiohttp.ClientSession"
    open_store: Callable[[str], DocumentStore]
    kv: KeyValue
    clock: Clock = field(default_factory=SystemClock)
    connected: bool = False
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def connect(self) -> None:
        """Start the bus unless it is started, once for all services of the process.

        Raises DependencyUnavailable, after which it may be called again, or Misconfigured.
        """
        async with self._connecting:
            if not self.connected:
                await self.bus.start()
                self.connected = True

    def logger(self, service: str) -> Logger:
        """Give the logger of a service."""
        return logger(service)

    def keys(self, name: str) -> "Ed25519PrivateKey":
        """Give the signing key of this name, made at first use and kept below the data folder, readable to us only."""
        from raa_runtime.keys import load_or_create  # only safety and the client sign

        return load_or_create(self.data / "keys" / f"{name}.pem")


def open_bus(settings: ServiceSettings) -> Bus:
    """Choose the bus; its client library is imported only if it is used."""
    if settings.bus == "kafka":
        from raa_runtime.bus.kafka import KafkaBus

        return KafkaBus.from_settings(settings)
    from raa_runtime.bus.embedded import EmbeddedBus

    return EmbeddedBus(settings.data)


def open_store(settings: ServiceSettings, service: str) -> DocumentStore:
    """Choose the document store of a service: its own file, or its own database."""
    if settings.store == "mongo":
        from raa_runtime.state.mongo import MongoStore
        from raa_schemas.ids import owned

        return MongoStore(settings.mongo_url.get_secret_value(), owned(settings.deployment, service).replace(".", "_"))
    from raa_runtime.state.sqlite import SqliteStore

    return SqliteStore(settings.data / f"{service}.sqlite")


def open_kv(settings: ServiceSettings) -> KeyValue:
    """Choose the cache."""
    if settings.redis_url is None:
        return InProcessKeyValue()
    from raa_runtime.kv_redis import RedisKeyValue

    return RedisKeyValue(settings.redis_url.get_secret_value(), settings.deployment)


@contextlib.asynccontextmanager
async def open_platform(settings: ServiceSettings, *, connect: bool = True) -> AsyncIterator[Platform]:
    """Open everything, close it again; raises Misconfigured or DependencyUnavailable with what to do.

    Without `connect` the bus is left to `Platform.connect`, for whoever can wait until it is there.
    """
    import aiohttp

    bus = open_bus(settings)
    if connect:
        await bus.start()
    kv = open_kv(settings)
    blobs = open_blobs(settings.blobs_url or f"file:{settings.data / 'blobs'}", settings.deployment)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        connector = aiohttp.TCPConnector(limit=settings.http_max_connections)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
            yield Platform(
                settings.deployment,
                settings.data,
                bus,
                blobs,
                http,
                lambda service: open_store(settings, service),
                kv,
                connected=connect,
            )
    finally:
        await kv.close()
        await bus.stop()


__all__ = ["Platform", "TenantScope", "open_platform"]
