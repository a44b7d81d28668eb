"""Follows one task over a bus whose topics and partitions come in no common order."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from raa_client.observed import Observed, in_order, observe, reading, story_topics
from raa_runtime.bus.port import Bus, Record, TopicPartition
from raa_schemas.task import TaskCreated, TaskDone

QUIET_SECONDS: Final = 0.05
"""After task.done its cause may still lie in a partition that is read next."""

LAST_CAUSE_SECONDS: Final = 0.5
OWN_RECORD_SECONDS: Final = 2.0
CATCH_UP_SECONDS: Final = 1.0
_END: Final = None


class Following:
    """One walk along the events of one task, each given once, ending behind its task.done."""

    def __init__(self, bus: Bus, deployment: str, tenant: str, task_id: str) -> None:
        self._bus = bus
        self._deployment, self._tenant, self._task_id = deployment, tenant, task_id
        self._topics = story_topics(deployment, tenant)
        self._records: asyncio.Queue[Record | None] = asyncio.Queue()
        self._seen: set[str] = set()
        self._done: Observed | None = None
        self._own_by: float | None = None

    async def newly_submitted(self, submit: Callable[[], Awaitable[None]]) -> AsyncGenerator[Observed, None]:
        """Read from now on, submit, and follow.

        A bus may take a moment to find its end. Should our own record not come back, we were too late and read all.
        """
        reader = asyncio.create_task(self._pump(from_beginning=False))
        try:
            await asyncio.sleep(0)  # lets the embedded bus note its end before anything is appended
            await submit()
            self._own_by = asyncio.get_running_loop().time() + OWN_RECORD_SECONDS
            async with aclosing(self._as_they_come(reader)) as events:
                async for observed in events:
                    yield observed
        finally:
            await _end(reader)
        # Without our own record, reading began in the middle: the end may be there, and what led to it is not.
        if self._done is None or self._own_by is not None:
            async with aclosing(self.from_beginning()) as events:
                async for observed in events:
                    yield observed

    async def from_beginning(self) -> AsyncGenerator[Observed, None]:
        """Give what there is in order, then what comes."""
        self._records, self._own_by = asyncio.Queue(), None
        ends = await self._bus.end_offsets(self._topics)
        reader = asyncio.create_task(self._pump(from_beginning=True))
        try:
            for observed in await self._catch_up(ends, reader):
                yield observed
            if self._done is None:
                async with aclosing(self._as_they_come(reader)) as events:
                    async for observed in events:
                        yield observed
        finally:
            await _end(reader)

    async def _pump(self, *, from_beginning: bool) -> None:
        try:
            async with reading(self._bus, self._topics, from_beginning=from_beginning, follow=True) as records:
                async for record in records:
                    self._records.put_nowait(record)
        finally:
            self._records.put_nowait(_END)

    async def _next(self, reader: asyncio.Task[None], seconds: float | None) -> Record | None:
        """Wait for a record; None after `seconds`. Raises what ended the reader."""
        try:
            async with asyncio.timeout(seconds):
                record = await self._records.get()
        except TimeoutError:
            return None
        if record is _END:
            await reader
        return record

    async def _catch_up(self, ends: dict[TopicPartition, int], reader: asyncio.Task[None]) -> list[Observed]:
        """Read up to the ends that were there at the start; a partition whose records expired is not waited for."""
        missing = {place for place, end in ends.items() if end > 0}
        found: list[Observed] = []
        while missing and (record := await self._next(reader, CATCH_UP_SECONDS)) is not None:
            if record.offset + 1 >= ends.get(record.place, 0):
                missing.discard(record.place)
            found += self._new(record)
        return in_order(found)

    def _new(self, record: Record) -> list[Observed]:
        observed = observe(record, self._deployment, tenant=self._tenant, task_id=self._task_id)
        if observed is None or observed.id in self._seen:
            return []
        self._seen.add(observed.id)
        if isinstance(observed.event, TaskDone):
            self._done = observed
        if isinstance(observed.event, TaskCreated):
            self._own_by = None
        return [observed]

    async def _as_they_come(self, reader: asyncio.Task[None]) -> AsyncGenerator[Observed, None]:
        """Follow to the end; or until it is clear that reading began behind our own record."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + LAST_CAUSE_SECONDS
        while True:
            if self._done is None:
                latest = loop.time() + LAST_CAUSE_SECONDS
            record = await self._next(reader, self._patience(loop.time(), latest))
            if record is None:
                return
            for observed in self._new(record):
                yield observed

    def _patience(self, now: float, latest: float) -> float | None:
        """Before the end wait without limit; behind it for its cause, and then for a moment of silence."""
        if self._done is None:
            return None if self._own_by is None else max(self._own_by - now, 0)
        left = max(latest - now, 0)
        cause = self._done.envelope.causation_id
        return min(QUIET_SECONDS, left) if cause is None or cause in self._seen else left


async def _end(reader: asyncio.Task[None]) -> None:
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
