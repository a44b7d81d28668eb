"""How long what has ended is remembered, and what happens when it is forgotten.

A tombstone wakes once more, when it may go. It has to outlive the records that could bring its aggregate back to life:
an event may create an aggregate only while it is younger than the horizon, and tombstones live longer than that.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from raa_runtime.clock import Clock
from raa_runtime.errors import Misconfigured, TransientError
from raa_runtime.guard import outcome_of
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.codec import Kind
from raa_runtime.state.port import DocumentStore
from raa_runtime.telemetry import Logger
from raa_runtime.topics import LETTERS_KEPT
from raa_schemas.topics import TOPICS

LOOK_SECONDS: Final = 30.0
# clocks of clients and brokers differ, and an event may lie in an outbox for a while before it is published
MARGIN_SECONDS: Final = 3_600.0
_PAGE: Final = 500
_MOST_KEPT: Final = 10_000
Forget = Callable[[Kind[Any], str], Awaitable[None]]


def contradictions(settings: ServiceSettings) -> list[str]:
    """Name what must outlive what and does not, with the variable to change."""
    found = []
    if settings.tombstone_seconds < settings.horizon_seconds + MARGIN_SECONDS:
        found.append(
            f"what has ended is remembered for {settings.tombstone_seconds:g} s, but events may create work for "
            f"{settings.horizon_seconds:g} s, so that old ones would begin it again; set RAA_TOMBSTONE_SECONDS to "
            f"{settings.horizon_seconds + MARGIN_SECONDS:g} or more"
        )
    shortest = min(topic.retention.total_seconds() for topic in TOPICS.values())
    if settings.horizon_seconds > shortest:
        found.append(
            f"events may create work for {settings.horizon_seconds:g} s, but a topic keeps its records only "
            f"{shortest:g} s; lower RAA_HORIZON_SECONDS"
        )
    return found


def too_short_for_blobs(seconds: float) -> str | None:
    """Say why files of a task must not go this soon after its end: a record that cites them may still be read."""
    longest = max(LETTERS_KEPT, *(topic.retention for topic in TOPICS.values())).total_seconds()
    if seconds >= longest + MARGIN_SECONDS:
        return None
    return (
        f"files are kept for {seconds:g} s after their task, but dead letters that cite them for {longest:g} s; "
        f"set RAA_BLOB_SECONDS to {longest + MARGIN_SECONDS:g} or more"
    )


def refuse_contradictions(settings: ServiceSettings) -> None:
    """Raise Misconfigured for what would repeat or lose work."""
    if found := contradictions(settings):
        raise Misconfigured("; ".join(found))


@dataclass
class Oblivion:
    """Delete the tombstones whose time has come, many at once, and what `forget` deletes with each of them.

    That comes first, so that a crash between the two repeats it. While a dependency is away all of them stay; one that
    `forget` fails for otherwise stays alone, until the next start, and holds back none of those behind it.
    """

    store: DocumentStore
    clock: Clock
    log: Logger
    forget: Forget | None = None
    _looked_at: float = float("-inf")
    _kept: dict[str, set[str]] = field(default_factory=dict)

    async def sweep(self, kinds: Collection[Kind[Any]], held: Collection[int] | None) -> None:
        """Look twice a minute; everything that is due by then goes."""
        now = self.clock.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        for kind in kinds:
            while await self._page(kind, held):
                pass

    async def _page(self, kind: Kind[Any], held: Collection[int] | None) -> bool:
        """Forget some; says whether there may be more."""
        now, kept = self.clock.now().timestamp(), self._kept.setdefault(kind.name, set())
        found = await self.store.expired(kind.name, now, held, _PAGE + len(kept))
        names, gone, away = [name for name in found if name not in kept][:_PAGE], list[str](), False
        for name in names:
            problem = await self._forget(kind, name)
            away = isinstance(problem, TransientError)
            if away:
                break
            if problem is None:
                gone.append(name)
            elif len(kept) < _MOST_KEPT:
                kept.add(name)
        if gone:
            await self.store.purge(kind.name, gone, now)
            self.log.debug("forgotten", kind=kind.name, aggregates=len(gone))
        return bool(gone) and not away and len(names) == _PAGE

    async def _forget(self, kind: Kind[Any], name: str) -> Exception | None:
        forget = self.forget
        if forget is None:
            return None
        problem = await outcome_of(lambda: forget(kind, name))
        if isinstance(problem, Exception):
            trace = None if isinstance(problem, TransientError) else problem
            self.log.warning("not_forgotten", kind=kind.name, aggregate=name, reason=str(problem), exc_info=trace)
            return problem
        return None
