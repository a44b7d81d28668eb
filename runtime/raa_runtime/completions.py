"""What becomes of the outcome of an activity: decided on once, and never lost while its aggregate can keep it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

from raa_runtime.away import Away
from raa_runtime.burial import Burial
from raa_runtime.convoy import Job, run_together
from raa_runtime.errors import AggregateTooLarge, NewerState, TransientError
from raa_runtime.unit import Completed, Unit
from raa_runtime.unit_of_work import Address, UnitOfWork
from raa_runtime.wakes import CompletedHandler
from raa_schemas.errors import error

DEFECT_TRIES: Final = 3


def _is_fenced(unit: Unit[Any], done: Completed) -> bool:
    activity = unit.aggregate.activities.get(done.activity_id)
    if activity is not None and activity.epoch == done.epoch and activity.owner == unit.owner:
        return False
    unit.ignore("fenced: this activity was settled or taken over")
    return True


def take_in(handlers: Mapping[str, CompletedHandler], done: Completed, unit: Unit[Any]) -> None:
    """Decide on an outcome: the activity is over, and its handler says what follows."""
    if _is_fenced(unit, done):
        return
    activity = unit.aggregate.activities.pop(done.activity_id)
    unit.cause_id = activity.cause_id or unit.cause_id
    if not unit.closed:
        handlers[done.kind](unit, done)
    unit.ignored = None  # even if nothing follows from it, the activity is over


@dataclass(eq=False)
class Completions:
    """Complete activities in the lanes of their aggregates: those that end in one tick together, where it is plain.

    Its coroutines never raise.

    `settled` is told of each epoch whose outcome is stored or fenced.
    """

    work: UnitOfWork
    away: Away
    burial: Burial
    completed: Mapping[str, CompletedHandler]
    defer_tries: int
    settled: Callable[[str, str, str, int], None]

    async def together(self, items: Sequence[tuple[Address, Completed]]) -> Sequence[bool]:
        """Store what is plain among these, in one go."""
        jobs = [Job(at, partial(take_in, self.completed, done), "completed") for at, done in items]
        stored = [unit is not None for unit in await run_together(self.work, jobs)]
        for (at, done), is_stored in zip(items, stored, strict=True):
            if is_stored:
                self.settled(at.kind.name, at.id, done.activity_id, done.epoch)
        return stored

    async def alone(self, item: tuple[Address, Completed]) -> None:
        """Complete one."""
        await self.complete(*item)

    async def complete(self, at: Address, done: Completed) -> None:
        """Run the unit of an outcome until it is stored, fenced, or kept for somebody else."""
        decide = partial(take_in, self.completed, done)
        problem = await self.away.outlast(lambda: self.work.run(at, decide, "completed"))
        if isinstance(problem, AggregateTooLarge) and done.outcome == "done":
            failed = replace(done, outcome="failed", result=None, error=error("too_large", str(problem)))
            await self.complete(at, failed)
            return
        if isinstance(problem, Exception) and not await self._insist(at, decide, done):
            return  # the intent is as it was and stays held here, or the next unit would begin the work again
        self.settled(at.kind.name, at.id, done.activity_id, done.epoch)

    async def _leave_outcome(self, at: Address, done: Completed) -> bool:
        """Keep an outcome with its intent for a process of the newer release that wrote this state."""

        def decide(unit: Unit[Any]) -> None:
            if not _is_fenced(unit, done):
                unit.aggregate.activities[done.activity_id].kept = asdict(done)
                unit.aggregate.partition = None  # any newer member may claim it, whatever its partitions

        failed = await self.away.outlast(lambda: self.work.run(at, decide, "completed", header_only=True))
        if isinstance(failed, AggregateTooLarge) and done.outcome == "done":
            too_large = error("too_large", str(failed))
            return await self._leave_outcome(at, replace(done, outcome="failed", result=None, error=too_large))
        if isinstance(failed, Exception):
            self.work.log.critical("outcome_not_kept", aggregate=at.id, activity=done.activity_id, exc_info=failed)
        return not isinstance(failed, Exception)

    async def _insist(self, at: Address, decide: Callable[[Unit[Any]], None], done: Completed) -> bool:
        """Run a unit that no redelivery would repeat; a defect quarantines the aggregate instead of losing it.

        What only a process of a newer release may decide on is left to it. Says whether any of this was stored.
        """
        tries = 0
        while True:
            tries += 1
            problem = await self.away.outlast(lambda: self.work.run(at, decide, "completed"))
            if not isinstance(problem, Exception):
                return True
            self.work.log.error("unit_defect", cause="completed", aggregate=at.id, exc_info=problem)
            if isinstance(problem, NewerState):
                return await self._leave_outcome(at, done)
            if tries >= (self.defer_tries if isinstance(problem, TransientError) else DEFECT_TRIES):
                break
            await asyncio.sleep(0.05 * 2**tries)
        quarantine = partial(self.burial.quarantine, problem=problem, lost=done)
        failed = await self.away.outlast(lambda: self.work.run(at, quarantine, "completed", header_only=True))
        if isinstance(failed, Exception):
            self.work.log.critical("quarantine_failed", aggregate=at.id, exc_info=failed)
        return not isinstance(failed, Exception)
