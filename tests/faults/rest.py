"""Waits until a deployment has come to rest: everything read, everything that ended shrunk, nothing under way."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from raa_client.connect import connect
from raa_runtime.bus.port import Bus
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned
from raa_schemas.topics import TOPICS
from tests.faults.gather import aggregates

_LOOK_SECONDS: Final = 0.2


async def quiet(settings: ServiceSettings, folders: Sequence[Path], seconds: float = 60) -> None:
    """Return when it rests; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        async with connect(settings) as client:
            for name, topic in TOPICS.items():
                for group in topic.readers:
                    await _read_up(client.bus, owned(settings.deployment, group), owned(settings.deployment, name))
        while any(_moves(stored) for _, stored in aggregates(settings, list(folders))):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(_LOOK_SECONDS)


async def _read_up(bus: Bus, group: str, topic: str) -> None:
    ends = await bus.end_offsets([topic])
    while True:
        committed = await bus.committed(group, [topic])
        if all(committed.get(place, 0) >= end for place, end in ends.items()):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _moves(stored: dict[str, Any]) -> bool:
    return bool(stored["closed"] and not stored["tombstone"]) or bool(stored["activities"])
