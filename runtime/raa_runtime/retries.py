"""Trying again what was deferred: in its order, so often, and then it is a dead letter."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from raa_runtime.away import Away
from raa_runtime.burial import Burial
from raa_runtime.completions import DEFECT_TRIES
from raa_runtime.deferral import as_record, pause_after
from raa_runtime.errors import TransientError, is_permanent
from raa_runtime.intake import Intake, read_body
from raa_runtime.state.aggregate import Deferred
from raa_runtime.unit import Received, Unit
from raa_runtime.unit_of_work import Address, UnitOfWork


@dataclass(frozen=True, slots=True)
class Retries:
    """Work off the deferred events of aggregates in their lanes. `handle` decides on an event of a topic."""

    work: UnitOfWork
    away: Away
    intake: Intake
    burial: Burial
    handle: Callable[[str, Unit[Any], Received[Any]], None]
    defer_tries: int

    async def work_off(self, at: Address) -> None:
        """Try the deferred events that are due, in order; the first that fails again holds back the others."""
        while True:
            tried: list[Deferred] = []
            attempt = partial(self._next_deferred, tried=tried)
            outcome = await self.away.outlast(partial(self.work.run, at, attempt, "wake"))
            if not tried:
                return
            if isinstance(outcome, Exception):
                await self._hold_back(at, outcome)
                return

    async def _hold_back(self, at: Address, why: Exception) -> None:
        """Let the first deferred event wait again, or bury it; without room for its letter, quarantine all of it."""
        put_back = partial(self._put_back, why=why)
        problem = await self.away.outlast(partial(self.work.run, at, put_back, "wake"))
        if not isinstance(problem, Exception) or isinstance(problem, TransientError):
            return
        self.work.log.error("unit_defect", cause="wake", aggregate=at.id, exc_info=problem)
        quarantine = partial(self.burial.quarantine, problem=problem)
        await self.away.outlast(partial(self.work.run, at, quarantine, "wake", header_only=True))

    def _next_deferred(self, unit: Unit[Any], tried: list[Deferred]) -> None:
        tried.clear()
        waiting = unit.aggregate.deferred
        if unit.aggregate.quarantined or not waiting or waiting[0].due > unit.now.timestamp():
            unit.ignore("nothing deferred is due")
            return
        head = waiting.pop(0)
        tried.append(head)
        addressed = self.intake.address(as_record(head))
        event = read_body(addressed)
        unit.cause_id = event.id
        if unit.aggregate.version <= 1 and unit.aggregate.counter == 0:
            unit.take_context(event)
        self.handle(addressed.topic.name, unit, event)
        if head.letter is not None:
            self.burial.tell(unit, head.letter, "handled", unit.ignored or "")
        unit.ignored = None  # even if nothing follows from it, it waits no longer

    def _put_back(self, unit: Unit[Any], why: Exception) -> None:
        if not unit.aggregate.deferred:
            unit.ignore("nothing deferred")
            return
        head = unit.aggregate.deferred[0]
        head.tries += 1
        head.reason = str(why)
        head.due = unit.now.timestamp() + pause_after(why, head.tries)
        if isinstance(why, TransientError) and head.tries < self.defer_tries:
            return
        if not is_permanent(why) and head.tries < min(DEFECT_TRIES, self.defer_tries):
            return
        unit.aggregate.deferred.pop(0)
        self.burial.deferred(unit, head, why)
