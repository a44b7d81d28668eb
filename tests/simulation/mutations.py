"""Rules of the runtime, each broken on purpose: a simulator that does not notice would prove nothing."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from raa_runtime import convoy, dispatch, unit_of_work
from raa_runtime.completions import Completions
from raa_runtime.dispatch import Dispatcher
from raa_runtime.simulated.world import replaced
from raa_runtime.unit_of_work import UnitOfWork
from raa_runtime.watermark import Watermark

Replacement = tuple[Any, str, Callable[[Any], Any]]


def publish_before_write(original: Any) -> Any:
    async def stored(work: UnitOfWork, riders: Any) -> Any:
        await convoy._published(work, riders)
        return await original(work, riders)

    return stored


def skip_catch_up(_: Any) -> Any:
    async def nothing(self: UnitOfWork, unit: Any) -> None:
        return

    return nothing


def commit_past_the_unsettled(original: Any) -> Any:
    def settle(self: Watermark, offset: int) -> None:
        original(self, offset)
        self._next = max(self._next or 0, offset + 1)

    return settle


class _Before:
    """A unit of work whose decisions are preceded by something."""

    def __init__(self, work: UnitOfWork, before: Callable[[Any], None]) -> None:
        self._work, self._before = work, before

    async def run(self, at: Any, decide: Callable[[Any], Any], *rest: Any, **options: Any) -> Any:
        def both(unit: Any) -> Any:
            self._before(unit)
            return decide(unit)

        return await self._work.run(at, both, *rest, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


def no_fencing(original: Any) -> Any:
    async def complete(self: Completions, at: Any, done: Any) -> None:
        def forget(unit: Any) -> None:
            if activity := unit.aggregate.activities.get(done.activity_id):
                activity.epoch, activity.owner = done.epoch, unit.owner

        careless: Any = copy.copy(self)
        careless.work = _Before(self.work, forget)
        await original(careless, at, done)

    return complete


def rerun_once(original: Any) -> Any:
    def take_over(unit: Any, *rest: Any) -> None:
        once = [activity for activity in unit.aggregate.activities.values() if activity.effect == "once"]
        for activity in once:
            activity.effect = "keyed"
        original(unit, *rest)
        for activity in once:
            activity.effect = "once"

    return take_over


def forget_wake(original: Any) -> Any:
    def wake_time(aggregate: Any, cause: Any, now: float) -> float | None:
        at: float | None = original(aggregate, cause, now)
        return None if cause == "completed" else at

    return wake_time


def overtake_deferred(_: Any) -> Any:
    def decide(self: Dispatcher, addressed: Any, event: Any, _: Any, unit: Any) -> None:
        unit.cause_id = event.id
        self.on[addressed.topic.name].handler(unit, event)

    return decide


def nothing_is_known(_: Any) -> Any:
    return lambda *_: False


def refuse_nothing(_: Any) -> Any:
    async def refuse(self: UnitOfWork, *_: Any) -> None:
        return

    return refuse


def shrink_what_is_stored(original: Any) -> Any:
    def after(self: UnitOfWork, unit: Any, gone: Any) -> None:
        original(self, unit, gone)
        self.ended.add(unit.kind.name, unit.aggregate, 0)

    return after


MUTATIONS: Final[Mapping[str, Sequence[Replacement]]] = {
    "publish before the write": [(convoy, "_stored", publish_before_write)],
    "skip the outbox of a duplicate": [(UnitOfWork, "_catch_up", skip_catch_up)],
    "commit past an unsettled record": [(Watermark, "settle", commit_past_the_unsettled)],
    "no fencing of epochs": [(Completions, "complete", no_fencing)],
    "run `once` again after a crash": [(dispatch, "take_over", rerun_once)],
    "forget wake_at when an activity ends": [(unit_of_work, "wake_time", forget_wake)],
    "shrink what is stored and not yet published": [(UnitOfWork, "after", shrink_what_is_stored)],
    "overtake deferred events": [(Dispatcher, "_decide", overtake_deferred)],
    "take a duplicate for new": [
        (convoy, "_is_known", nothing_is_known),
        (UnitOfWork, "_refuse_duplicate", refuse_nothing),
    ],
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Break one rule for a while."""
    with ExitStack() as stack:
        for where, attribute, change in MUTATIONS[name]:
            stack.enter_context(replaced(where, attribute, change(getattr(where, attribute))))
        yield
