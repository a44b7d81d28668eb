"""Clocks of simulated processes: virtual time, each with its own error."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def virtual_now() -> datetime:
    """Give the true time of the world."""
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


class SkewedClock:
    """A clock that is `skew` seconds fast, negative if slow; its monotonic time begins anywhere."""

    def __init__(self, skew: float = 0.0, begun: float = 0.0) -> None:
        self._skew = timedelta(seconds=skew)
        self._begun = begun

    def now(self) -> datetime:
        """Give the wall time as this process believes it."""
        return virtual_now() + self._skew

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return asyncio.get_running_loop().time() + self._begun

    def boottime(self) -> float:
        """Give seconds that go on while the process is frozen."""
        return self.monotonic()
