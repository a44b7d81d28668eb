"""Group commit: what is written while a commit is under way goes out together with the next one."""

import asyncio
from collections.abc import Sequence

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.guard import outcome_of
from raa_runtime.state.port import DocumentStore, Outcome, Write

MAX_BATCH = 500


class GroupCommit:
    """Collect conditional writes of concurrent lanes into few store calls."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._waiting: list[tuple[Write, asyncio.Future[Outcome]]] = []
        self._running: asyncio.Task[None] | None = None

    def write(self, write: Write) -> "asyncio.Future[Outcome]":
        """Store a write durably; raises what the store said of this one, DependencyUnavailable if it is away."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="group-commit")
        return done

    async def write_all(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Store many writes; one entry per write, what failed it included."""
        outcomes: list[Outcome | Exception] = []
        for done in [self.write(write) for write in writes]:
            if not done.done():  # after the first, the others of a batch are
                await asyncio.wait([done])
            outcomes.append(_outcome(done))
        return outcomes

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._commit(batch)
        finally:
            self._running = None

    async def _commit(self, batch: list[tuple[Write, asyncio.Future[Outcome]]]) -> None:
        outcomes = await outcome_of(lambda: self._store.commit([write for write, _ in batch]))
        if isinstance(outcomes, Exception):
            if len(batch) > 1 and not isinstance(outcomes, DependencyUnavailable):
                for item in batch:  # one of them must be to blame; the others are to be stored
                    await self._commit([item])
                return
            outcomes = [outcomes] * len(batch)
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if done.done():
                continue
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)


def _outcome(done: "asyncio.Future[Outcome]") -> Outcome | Exception:
    problem = done.exception()
    if isinstance(problem, Exception):
        return problem
    return done.result()
