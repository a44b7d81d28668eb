"""The watchdog: a service that makes no progress while its lag grows, although bus and store answer, must end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

LOOK_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 120.0


@dataclass
class Watchdog:
    """Compare looks at one consumer. `answers` says whether bus and store do; while they do not, nobody is to blame."""

    settled: Callable[[], int]
    lag: Callable[[], Awaitable[int]]
    answers: Callable[[], Awaitable[bool]]
    now: Callable[[], float]
    _settled: int = -1
    _lag: int = 0
    _since: float = 0.0

    async def is_stuck(self) -> bool:
        """Look once; true when nothing was settled for two minutes in which the lag grew."""
        settled, lag = self.settled(), await self.lag()
        if settled != self._settled or not lag or not await self.answers():
            self._settled, self._lag, self._since = settled, lag, self.now()
            return False
        return lag > self._lag and self.now() - self._since > PATIENCE_SECONDS
