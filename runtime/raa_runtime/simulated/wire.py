"""The way between a process and a server: a request arrives or does not, and its reply comes, late or never."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.guard import result_of
from raa_runtime.simulated.chance import Chance
from raa_runtime.simulated.process import OUTSIDE, PROCESS, Process

T = TypeVar("T")
UNANSWERED_SECONDS: Final = 2.0


class Server:
    """What stands behind wires: the broker, or one store. `away` counts the outages under way."""

    def __init__(self, name: str, chance: Chance) -> None:
        self.name, self.chance = name, chance
        self.away = 0
        self.asking: Process | None = None
        """whose request is being served"""
        self.watchers: list[Callable[[], None]] = []
        """called after each request that changed something, before its reply leaves"""
        self.swallow: Callable[[Process | None, str], bool] = lambda *_: False
        """asked of each request that would change something whether it gets lost on the way"""

    def changed(self) -> None:
        """Tell the watchers."""
        for watch in self.watchers:
            watch()

    def refusal(self) -> DependencyUnavailable:
        """Build what a caller hears who got no reply."""
        return DependencyUnavailable(f"the simulated {self.name} does not answer")


class Wire:
    """One connection. What is sent first arrives first."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._last = 0.0
        self._sent: deque[Callable[[], None]] = deque()

    def _arrive(self) -> None:
        """Let the oldest request arrive, whichever was drawn: the loop draws by lot among what is due by now."""
        self._sent.popleft()()

    async def ask(self, act: Callable[[], T], *, change: str = "") -> T:
        """Have the server act when the request arrives; raises DependencyUnavailable when no reply comes.

        Then it is unknown whether it acted. `change` names what the request changes; without one nothing gets lost.
        """
        loop, chance, process = asyncio.get_running_loop(), self._server.chance, PROCESS.get()
        reply: asyncio.Future[T] = loop.create_future()
        swallowed = bool(change) and self._server.swallow(process, change)
        never = swallowed or (bool(change) and chance.happens(chance.weather.lost_request))
        lost = bool(change) and chance.happens(chance.weather.lost_reply)

        def arrive() -> None:
            if process is not None and process.gone:
                return
            if self._server.away or never:
                answer(None, self._server.refusal(), UNANSWERED_SECONDS)
                return
            self._server.asking = process
            said = result_of(act)
            self._server.asking = None
            problem = said if isinstance(said, Exception) else self._server.refusal() if lost else None
            answer(said, problem, UNANSWERED_SECONDS if lost else 0.0)

        def answer(value: Any, problem: Exception | None, pause: float) -> None:
            pause += chance.delay() if chance.happens(0.5) else 0.0
            if pause:
                loop.call_later(pause, settle, reply, value, problem, context=OUTSIDE)
            else:
                settle(reply, value, problem)

        self._last = at = max(loop.time() + chance.delay(), self._last)
        self._sent.append(arrive)
        loop.call_at(at, self._arrive, context=OUTSIDE)
        return await reply


def settle(reply: "asyncio.Future[Any]", value: Any, problem: Exception | None) -> None:
    """Give a waiting caller its answer, unless it has gone."""
    if reply.done():
        return
    if problem is None:
        reply.set_result(value)
    else:
        reply.set_exception(problem)
