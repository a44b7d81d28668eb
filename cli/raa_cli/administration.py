"""Opens a bus for an operator's command: what services see of it, and what only operators ask."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from raa_cli.session import Place, owner, running, something_there
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.operations import Operations
from raa_runtime.bus.port import Bus
from raa_runtime.bus.socket_client import SocketBus
from raa_runtime.folder_lock import FolderLock
from raa_runtime.settings import ServiceSettings


@dataclass(frozen=True)
class Administration:
    """A bus, its operator's side, and the addresses of services that are known without being told."""

    settings: ServiceSettings
    bus: Bus
    operations: Operations
    urls: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False
    """An embedded bus whose stack does not run: this command owns the folder."""


@contextlib.asynccontextmanager
async def administration(place: Place) -> AsyncIterator[Administration]:
    """Open it, close it again; raises what connecting raises."""
    settings = place.settings()
    info = await owner(place.data)
    urls: dict[str, str] = info["urls"] if info else {}
    if settings.bus == "kafka":
        async with _kafka(settings) as operations, running(place) as client:
            yield Administration(settings, client.bus, operations, urls)
    elif info:
        socket = SocketBus(place.data)
        yield Administration(settings, socket, socket, urls)
    else:
        something_there(place)
        with FolderLock(place.data):
            bus = EmbeddedBus(place.data)
            await bus.start()
            try:
                yield Administration(settings, bus, bus, stopped=True)
            finally:
                await bus.stop()


@contextlib.asynccontextmanager
async def _kafka(settings: ServiceSettings) -> AsyncIterator[Operations]:
    from raa_runtime.bus.kafka_operations import KafkaOperations

    operations = KafkaOperations.from_settings(settings)
    await operations.start()
    try:
        yield operations
    finally:
        await operations.stop()
