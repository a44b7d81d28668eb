"""What a group does with a decision about one of its dead letters, in the lane of the aggregate it is about."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from raa_runtime.away import Away
from raa_runtime.burial import Burial
from raa_runtime.bus.port import Message
from raa_runtime.errors import AlreadyHandled, PermanentError, PublishRefused
from raa_runtime.redrive import Order
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Unit
from raa_runtime.unit_of_work import Address
from raa_runtime.wakes import CompletedHandler, take_over
from raa_schemas.redrive import RedriveOutcome

REVIVAL_TRIES: Final = 3
Redo = Callable[[Order], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Revival:
    """Act on decisions. Its coroutines never raise and may run again; only the first time changes anything.

    `redo` decides on a readable event again, `work_off` tries what waits in an aggregate; `lives` says whether a
    process may be running activities.
    """

    burial: Burial
    away: Away
    kinds: Mapping[str, Kind[Any]]
    completed: Mapping[str, CompletedHandler]
    lives: Callable[[str], bool]
    redo: Redo
    work_off: Callable[[Address], Awaitable[None]]

    def lane_of(self, order: Order) -> str:
        """Name the lane of a letter that is no event of an aggregate."""
        letter = order.letter
        return f"{letter.topic}:{(letter.key or b'').decode(errors='replace')}"

    async def handle(self, order: Order) -> None:
        """Do what was decided."""
        letter, action = order.letter, order.decision.action
        self.burial.count(letter.topic, action)
        if action == "drop":
            await self.tell(order, "dropped", order.decision.why)
        elif order.decision.into is not None:
            await self.tell(order, "handled", f"done again as task {order.decision.into}")
        elif letter.kind == "aggregate":
            await self._revive(order)
        elif letter.kind == "outbox":
            await self._publish(order)
        elif order.addressed is None:
            problem = order.unreadable or PermanentError("it cannot be read")
            await self.burial.redriven(order, problem, self.burial.work.clock.now())
        else:
            await self.redo(order)

    async def tell(self, order: Order, outcome: RedriveOutcome, reason: str = "") -> None:
        """Say on the bus what became of it."""
        work = self.burial.work
        done = order.done(outcome, reason, deployment=work.deployment, at=work.clock.now())
        work.log.info("redrive", letter=order.letter.id, outcome=outcome, reason=reason, by=order.decision.by)
        if done:
            await work.send(done)

    async def _publish(self, order: Order) -> None:
        """Publish an event of our own again; whoever knows its id already ignores it."""
        letter, work, pause = order.letter, self.burial.work, 0.1
        headers = tuple((name, raw or b"") for name, raw in letter.headers)
        message = Message(letter.topic, letter.key or b"", letter.value or b"", headers)
        while True:
            [problem] = await work.bus.publish([message])
            if isinstance(problem, PublishRefused):
                await self.burial.redriven(order, problem, work.clock.now())
                return
            if problem is None:
                await self.tell(order, "handled")
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _revive(self, order: Order) -> None:
        """Take an aggregate out of quarantine; what waited in it goes on in its order."""
        letter, work = order.letter, self.burial.work
        kind, aggregate = self.kinds.get(letter.topic), (letter.key or b"").decode(errors="replace")
        if kind is None or aggregate.count("/") < 1:
            await self.tell(order, "refused", f"this release has no aggregate {letter.topic} {aggregate}")
            return
        at = Address(kind, aggregate, aggregate.split("/")[1])
        outcome: Any = None
        for number in range(REVIVAL_TRIES):
            await asyncio.sleep(0.05 * number)
            outcome = await self.away.outlast(partial(work.run, at, self._release, "wake"))
            if not isinstance(outcome, Exception) or isinstance(outcome, PermanentError | AlreadyHandled):
                break
        if not isinstance(outcome, Exception):
            released = outcome.ignored is None
            await self.tell(order, "handled" if released else "ignored", outcome.ignored or "")
            await self.work_off(at)
            return
        unit = await self.away.outlast(partial(work.run, at, _look, "wake", header_only=True))
        if isinstance(unit, Exception):
            work.log.critical("redrive_failed", aggregate=at.id, exc_info=unit)
            return
        await self.burial.aggregate(unit, outcome, order)

    def _release(self, unit: Unit[Any]) -> None:
        aggregate = unit.aggregate
        if unit.is_new or not aggregate.quarantined:
            unit.ignore("it is not in quarantine")
            return
        aggregate.quarantined, aggregate.wake_tries = False, 0
        for waiting in aggregate.deferred:
            waiting.due = min(waiting.due, unit.now.timestamp())
        owners = {activity.owner for activity in aggregate.activities.values()}
        take_over(unit, {owner for owner in owners if not self.lives(owner)}, dict(self.completed))
        unit.ignored = None


def _look(unit: Unit[Any]) -> None:
    unit.ignore("only looked at")
