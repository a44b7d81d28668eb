"""What a process does all the time: loops that are started again when they fail."""

import asyncio
from collections.abc import Awaitable, Callable

from raa_runtime.errors import TransientError
from raa_runtime.guard import outcome_of
from raa_runtime.telemetry import Logger

RESTART_SECONDS = 1.0


class Loops:
    """Keep the loops of one service going."""

    def __init__(self, service: str, log: Logger) -> None:
        self._service, self._log = service, log
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run until it returns; its failure is logged, never swallowed."""
        self.tasks.append(asyncio.create_task(self._keep(name, work), name=f"{self._service} {name}"))

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            problem = await outcome_of(work)
            if not isinstance(problem, Exception):
                return
            self._log.error(
                "loop_failed",
                loop=name,
                exc_info=None if isinstance(problem, TransientError) else problem,
                reason=str(problem),
            )
            await asyncio.sleep(RESTART_SECONDS)

    async def stop(self, timeout_seconds: float) -> None:
        """Stop all, and wait no longer than this."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=timeout_seconds)
