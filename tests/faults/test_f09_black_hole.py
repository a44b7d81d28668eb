"""F9: one connection that swallows everything, while the broker lives, holds up its partitions for seconds only."""

import asyncio
import struct
import time
from collections.abc import Awaitable
from typing import Final

import pytest

from tests.faults.exposed import WHERE, Exposed
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.relay import Ends, Relay, relayed
from tests.faults.report import LONG, Row
from tests.faults.trial import until

TASKS: Final = 100 if LONG else 12
VICTIM: Final = b"planner-1"
PROGRESS_SECONDS: Final = 60.0
_HEAD: Final = struct.Struct(">hhih")
_FETCH: Final = 1


class BlackHole(Relay):
    """Passes Kafka's frames on, but for one connection that the victim fetches by: it swallows both ways for ever."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.armed, self.holes = False, 0

    def ways(self, client: Ends, server: Ends) -> tuple[Awaitable[None], Awaitable[None]]:
        """Decide by what is asked for."""
        swallowed = asyncio.Event()
        return self._ask(client[0], server[1], swallowed), self._answer(server[0], client[1], swallowed)

    async def _ask(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, swallowed: asyncio.Event) -> None:
        while True:
            size = await reader.readexactly(4)
            frame = await reader.readexactly(int.from_bytes(size))
            api, _, _, length = _HEAD.unpack_from(frame)
            if self.armed and api == _FETCH and VICTIM in frame[_HEAD.size : _HEAD.size + length]:
                self.armed, self.holes = False, self.holes + 1
                swallowed.set()
            if not swallowed.is_set():
                server.write(size + frame)
                await server.drain()

    async def _answer(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowed: asyncio.Event
    ) -> None:
        while data := await server.read(1 << 16):
            if not swallowed.is_set():
                writer.write(data)
                await writer.drain()
        if swallowed.is_set():
            await asyncio.Event().wait()  # also its end is swallowed


async def one_hole(exposed: Exposed) -> tuple[float, int]:
    """Let one connection swallow everything under load; gives how long the load took then, and how many did."""
    load, hole = exposed.trial.load(), BlackHole(exposed.bus.upstream)
    async with relayed(exposed.bus, hole):
        await asyncio.to_thread(exposed.seconds_until_ready)
        await load.submit(mixed(TASKS, "a"))
        await load.until_ended()
        hole.armed = True
        await until(lambda: hole.holes > 0)
        begun = time.monotonic()
        await load.submit(mixed(TASKS, "b"))
        await load.until_ended()
        took = time.monotonic() - begun
    return took, hole.holes


@pytest.mark.long  # Kafka's client gives such a connection up after 40 s
def test_one_connection_that_swallows_everything_holds_up_nobody_for_long(
    on_proxied: Exposed, report: list[Row]
) -> None:
    pids = on_proxied.pids()
    took, holes = asyncio.run(one_hole(on_proxied))
    on_proxied.seconds_until_ready()
    ended = sum(pid != on_proxied.pids().get(name) for name, pid in pids.items())
    row = asyncio.run(
        judged(
            on_proxied.trial, "F9", WHERE, f"{holes} connection swallows all", all_ended_s=took, processes_ended=ended
        )
    )
    report.append(row)
    check(row, 2 * TASKS)
    assert took <= PROGRESS_SECONDS
