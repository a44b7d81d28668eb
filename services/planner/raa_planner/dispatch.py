"""Keeps the fair queue true to what is stored, and releases waiting tasks when capacity comes free."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from raa_planner.domain.planning import ticket_of
from raa_planner.domain.scheduler import FairQueue, Ticket
from raa_planner.domain.task import Task
from raa_planner.metrics import PlannerMetrics
from raa_runtime.clock import Clock
from raa_runtime.errors import RaaError
from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Logger
from raa_runtime.unit import Unit
from raa_schemas.task import TaskDone

LOOK_SECONDS: Final = 1.0
Release = Callable[[Ticket], Awaitable[bool]]


class Dispatcher:
    """Observes every stored unit, and hands out turns in the background."""

    def __init__(self, queue: FairQueue, clock: Clock, metrics: PlannerMetrics, log: Logger) -> None:
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._freed = asyncio.Event()
        metrics.show_queue(queue, clock.now)

    def observe(self, _: Kind[Any], unit: Unit[Any]) -> None:
        """Follow a task by its stored state, so that a decision that was not stored leaves nothing behind."""
        task: Task = unit.state
        if task.phase in {"ended", "marked"}:
            self._queue.finish(unit.id)
            self._freed.set()
        elif task.request is not None:
            self._follow(unit, task)
        for event in unit.published:
            if isinstance(event, TaskDone):
                self._note_end(unit, event)
                break  # the rest are copies

    def _follow(self, unit: Unit[Task], task: Task) -> None:
        ticket = ticket_of(task, unit.id, unit.tenant, unit.now)
        if task.phase == "queued":
            self._queue.offer(ticket)
            self._freed.set()
            return
        self._queue.hold(ticket, unit.now, parked=task.parked)
        if task.parked:
            self._freed.set()

    def _note_end(self, unit: Unit[Task], done: TaskDone) -> None:
        self._metrics.done.labels(done.outcome).inc()
        self._metrics.attempts.inc(done.attempts)
        self._metrics.duration.observe(done.durations.total_ms / 1000)
        self._log.info(
            "task_done",
            tenant=unit.tenant,
            task=unit.task_id,
            outcome=done.outcome,
            attempts=done.attempts,
            error=done.error.code if done.error else None,
        )

    async def run(self, release: Release) -> None:
        """Release whoever's turn it is, for ever; a task that cannot be released comes back by its own timer."""
        while True:
            if turns := self._turns():
                await asyncio.gather(*(self._release(release, ticket) for ticket in turns))
            await self._wait()

    def _turns(self) -> list[Ticket]:
        now, turns = self._clock.now(), []
        while (ticket := self._queue.next(now)) is not None:
            turns.append(ticket)
        return turns

    async def _release(self, release: Release, ticket: Ticket) -> None:
        try:
            under_way = await release(ticket)
        except RaaError as problem:
            self._log.warning("release_failed", task=ticket.task, reason=str(problem))
            under_way = False
        if not under_way:
            self._queue.finish(ticket.task)

    async def _wait(self) -> None:
        """Wait until something changed, at most a second, for a not-before may have come."""
        try:
            await asyncio.wait_for(self._freed.wait(), LOOK_SECONDS)
        except TimeoutError:
            return
        self._freed.clear()
