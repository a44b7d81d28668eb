"""This process's clock against its store's: who is wrong about the time must not decide by it."""

import asyncio
from collections.abc import Callable
from typing import Final

from raa_runtime.clock import Clock
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.guard import outcome_of
from raa_runtime.state.port import DocumentStore

MOST_CLOCK_SKEW_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 2.0


class Timekeeper:
    """Compare the clocks. While `wrong`, no record is taken and no timer fires: deadlines would pass an hour early."""

    def __init__(self, store: DocumentStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self.wrong = False

    async def check(self) -> None:
        """Raise DependencyUnavailable when the clocks differ by more than 2 s, or the store does not say."""
        skew = abs((await self._store.now() - self._clock.now()).total_seconds())
        self.wrong = skew > MOST_CLOCK_SKEW_SECONDS
        if self.wrong:
            raise DependencyUnavailable(f"this clock and the store's differ by {skew:.1f} s; set it by NTP")

    async def keep(self, hold: Callable[[bool], None]) -> None:
        """Check for ever, and tell `hold` what is so."""
        while True:
            await outcome_of(self.check)
            hold(self.wrong)
            await asyncio.sleep(LOOK_SECONDS)
