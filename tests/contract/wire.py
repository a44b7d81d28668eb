"""A TCP connection that can be cut at the worst moment: after the server did what it was asked, before it says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

Cut = Literal["reply", "request"]


class Wire:
    """Forwards to a server. `cut` names the bytes of a request at which the connection is cut once."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._marker = b""
        self._cut: Cut = "reply"
        self.cuts = 0
        self.port = 0

    def cut_at(self, marker: bytes, cut: Cut) -> None:
        """Cut when a request holds `marker`: before it arrives, or when its reply is there."""
        self._marker, self._cut = marker, cut

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        swallow = asyncio.Event()
        pumps = [
            asyncio.create_task(self._requests(reader, upstream_writer, swallow)),
            asyncio.create_task(self._replies(upstream_reader, writer, swallow)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            for end in (writer, upstream_writer):
                end.close()

    async def _requests(
        self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 20):
            if self._marker and self._marker in data:
                self._marker = b""
                self.cuts += 1
                if self._cut == "request":
                    return
                swallow.set()
            upstream.write(data)
            await upstream.drain()

    async def _replies(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        while data := await upstream.read(1 << 20):
            if swallow.is_set():
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def wire_to(host: str, port: int) -> AsyncIterator[Wire]:
    """Open a wire on a port of its own while the block runs."""
    wire = Wire(host, port)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
