"""F15: a write whose reply is cut in the middle, after it was applied, is known for one's own and not done again."""

import asyncio
import random
import struct
from collections.abc import Awaitable
from typing import Final

from tests.faults.exposed import WHERE, Exposed
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.relay import Ends, Relay, relayed
from tests.faults.report import LONG, Row

TASKS: Final = 200 if LONG else 20
PER_SECOND: Final = 10
CHANCE: Final = 0.1
LEAST_CUTS: Final = 50 if LONG else 3
SEED: Final = 3
_HEADER: Final = struct.Struct("<iiii")
_UPDATE: Final = b"\x02update\x00"


class Cutter(Relay):
    """Passes MongoDB's frames on; of some writes it passes on half the reply, and closes the connection."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._chance, self.cuts = random.Random(SEED), 0

    def ways(self, client: Ends, server: Ends) -> tuple[Awaitable[None], Awaitable[None]]:
        """Remember what was asked for, to cut its answer."""
        condemned = set[int]()
        return self._ask(client[0], server[1], condemned), self._answer(server[0], client[1], condemned)

    async def _ask(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, condemned: set[int]) -> None:
        while True:
            number, _, frame = await _frame(reader)
            if _UPDATE in frame[:64] and b"write_id" in frame and self._chance.random() < CHANCE:
                condemned.add(number)
            server.write(frame)
            await server.drain()

    async def _answer(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, condemned: set[int]) -> None:
        while True:
            _, asked, frame = await _frame(server)
            if asked in condemned:
                self.cuts += 1
                writer.write(frame[: len(frame) // 2])
                await writer.drain()
                return
            writer.write(frame)
            await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    head = await reader.readexactly(_HEADER.size)
    size, number, asked, _ = _HEADER.unpack(head)
    return number, asked, head + await reader.readexactly(size - _HEADER.size)


async def under_cuts(exposed: Exposed) -> int:
    """Put load on the deployment while replies are cut; gives how many."""
    load, cutter = exposed.trial.load(), Cutter(exposed.store.upstream)
    async with relayed(exposed.store, cutter):
        await load.trickle(mixed(TASKS, "c"), PER_SECOND)
        await load.until_ended(seconds=180)
    return cutter.cuts


def test_a_reply_that_is_cut_after_the_write_leads_to_no_second_one(on_proxied: Exposed, report: list[Row]) -> None:
    pids = on_proxied.pids()
    cuts = asyncio.run(under_cuts(on_proxied))
    on_proxied.seconds_until_ready()
    ended = sum(pid != on_proxied.pids().get(name) for name, pid in pids.items())
    injected = f"{cuts} replies of writes cut in the middle"
    row = asyncio.run(judged(on_proxied.trial, "F15", WHERE, injected, cuts=cuts, processes_ended=ended))
    report.append(row)
    check(row, TASKS)
    assert ended == 0
    assert cuts >= LEAST_CUTS
