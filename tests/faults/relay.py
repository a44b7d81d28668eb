"""A relay that understands frames: it stands between a deployment and a server, and hurts one frame or connection."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from tests.backends.process import LOOPBACK
from tests.faults.exposed import Hurt
from tests.faults.trial import until

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay(ABC):
    """Stands between clients and a server; `connections` are those open now."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.partition(":")
        self._upstream, self.connections = (host, int(port)), 0

    @abstractmethod
    def ways(self, client: Ends, server: Ends) -> tuple[Awaitable[None], Awaitable[None]]:
        """Give what carries requests to the server, and answers to the client, until one of them returns."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stand between one client and the server."""
        server = await asyncio.open_connection(*self._upstream)
        tasks = [asyncio.ensure_future(way) for way in self.ways((reader, writer), server)]
        self.connections += 1
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _close(writer, server[1])
            self.connections -= 1


async def _close(*ends: asyncio.StreamWriter) -> None:
    for end in ends:
        end.close()
        with contextlib.suppress(ConnectionError):
            await end.wait_closed()


@asynccontextmanager
async def relayed(hurt: Hurt, relay: Relay) -> AsyncIterator[Any]:
    """Put a relay between a deployment and one of its servers while the block runs."""
    server = await asyncio.start_server(relay.serve, LOOPBACK, 0)
    async with server:
        await asyncio.to_thread(hurt.way.lead_to, f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}")
        try:
            yield
        finally:
            await asyncio.to_thread(hurt.way.lead_to, hurt.upstream)
            await until(lambda: not relay.connections)
