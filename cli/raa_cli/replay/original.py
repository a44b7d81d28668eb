"""The deployment a replay reads from: opened so that not a byte of it changes."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from raa_cli.session import Place, owner, running, something_there
from raa_runtime.blobs import BlobStore, open_blobs
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Bus

_LOG_FILES = ("bus.sqlite", "bus.sqlite-wal")


@dataclass(frozen=True)
class Original:
    """Where recordings and their blobs are read."""

    bus: Bus
    blobs: BlobStore
    blobs_url: str
    deployment: str


@contextlib.asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Original]:
    """Open Kafka or a running stack as an observer; of a folder that nobody runs on, open a copy of its log."""
    settings = place.settings()
    url = settings.blobs_url or f"file:{place.data.absolute() / 'blobs'}"
    blobs = open_blobs(url, settings.deployment)
    if settings.bus == "kafka" or await owner(place.data):
        async with running(place) as client:
            yield Original(client.bus, blobs, url, settings.deployment)
        return
    something_there(place)
    async with _copy_of(place.data) as bus:
        yield Original(bus, blobs, url, settings.deployment)


@contextlib.asynccontextmanager
async def _copy_of(data: Path) -> AsyncIterator[Bus]:
    with tempfile.TemporaryDirectory(prefix="raa-log-") as folder:
        for name in _LOG_FILES:
            if (data / name).is_file():
                shutil.copyfile(data / name, Path(folder) / name)
        bus = EmbeddedBus(Path(folder))
        await bus.start()
        try:
            yield bus
        finally:
            await bus.stop()
