"""Waiting for the store and the bus: work that met neither is tried until they are back, and readiness says so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.guard import outcome_of
from raa_runtime.telemetry import Logger

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
T = TypeVar("T")


class Away:
    """Remember what does not answer, so that readiness can name it."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self.reason: str | None = None

    async def outlast(self, work: Callable[[], Awaitable[T]]) -> T | Exception:
        """Try again for as long as the store or the bus is away; every other failure is the caller's to judge."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            outcome = await outcome_of(work)
            if not isinstance(outcome, DependencyUnavailable):
                self.reason = None
                return outcome
            if self.reason is None:
                self._log.warning("dependency_away", reason=str(outcome), note="waiting until it is back")
            self.reason = str(outcome)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
