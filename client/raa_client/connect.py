"""Connects a client to a running deployment: through Kafka, or through the socket in a data folder."""

import contextlib
from collections.abc import AsyncIterator

from raa_client.client import Client
from raa_runtime.blobs import open_blobs
from raa_runtime.bus.port import Bus
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import DEFAULT_TENANT


@contextlib.asynccontextmanager
async def connect(settings: ServiceSettings, tenant: str = DEFAULT_TENANT) -> AsyncIterator[Client]:
    """Open a client, close its connection again; raises DependencyUnavailable saying what to start."""
    bus = open_bus(settings)
    blobs = open_blobs(settings.blobs_url or f"file:{settings.data / 'blobs'}", settings.deployment)
    await bus.start()
    try:
        yield Client(bus, blobs, deployment=settings.deployment, tenant=tenant)
    finally:
        await bus.stop()


def open_bus(settings: ServiceSettings) -> Bus:
    """Choose how to reach the bus as somebody who owns no part of it."""
    if settings.bus == "kafka":
        from raa_runtime.bus.kafka import KafkaBus  # noqa: PLC0415  # only those on Kafka pay for its client

        return KafkaBus.from_settings(settings)
    from raa_runtime.bus.socket_client import SocketBus  # noqa: PLC0415  # as above

    return SocketBus(settings.data)
