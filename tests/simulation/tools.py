"""A far side in the simulated world: it does what it is asked for and writes it down before it answers."""

import asyncio
from typing import Any, Literal

from raa_runtime.activities import Call as ActivityCall
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.simulated.chance import Chance
from raa_runtime.simulated.process import PROCESS
from raa_runtime.simulated.wire import Server, Wire
from tests.faults.history import Call

Phase = Literal["received", "answered", "probed"]


class ToolServer(Server):
    """Keyed, once and checkable actions, and their ledger."""

    def __init__(self, chance: Chance) -> None:
        super().__init__("tools", chance)
        self.ledger: list[Call] = []
        self.done: dict[str, Any] = {}
        self.seconds = 0.0

    def takes(self) -> float:
        """Draw how long an action takes."""
        return self.chance.between(0.0, self.seconds)

    def note(self, phase: Phase, effect: str, key: str, epoch: int, place: tuple[str, str, str], args: str) -> Call:
        process = PROCESS.get()
        line = Call(asyncio.get_running_loop().time(), phase, effect, key, epoch,
                    process.incarnation if process else "", *place, args)  # fmt: skip
        self.ledger.append(line)
        return line


class ToolClient:
    """One process's way to the tools."""

    def __init__(self, server: ToolServer) -> None:
        self._server, self._wire = server, Wire(server)

    async def act(self, effect: str, key: str, epoch: int, place: tuple[str, str, str], args_hash: str = "") -> Any:
        """Have it done; raises DependencyUnavailable when no reply came."""

        def do() -> Any:
            self._server.note("received", effect, key, epoch, place, args_hash)
            known = self._server.done.setdefault(key, {"did": place[2], "key": key})
            self._server.changed()
            return known

        # nothing may lie between the check of the lease and the send: a process frozen right there is beyond promises
        answer = await self._wire.ask(do, change="act")
        await asyncio.sleep(self._server.takes())
        return answer

    async def probe(self, effect: str, key: str, epoch: int, place: tuple[str, str, str], args_hash: str = "") -> Any:
        """Ask whether it was done; None if not."""

        def look() -> Any:
            self._server.note("probed", effect, key, epoch, place, args_hash)
            return self._server.done.get(key)

        return await self._wire.ask(look)


def place_of(call: ActivityCall) -> tuple[str, str, str]:
    return call.tenant, call.task_id, f"v1/{call.args['step']}"


__all__ = ["DependencyUnavailable", "ToolClient", "ToolServer", "place_of"]
