"""What this process knows of its own writes: aggregates as it stored them, and which of their events are on the bus."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from raa_runtime.state.aggregate import Aggregate

CACHE_BYTES: Final = 8 * 1024 * 1024
_PUBLISHED_KEPT: Final = 100_000
SMALL_BYTES: Final = 4_096
"""A document that keeps more than this after its end is written anew, without what its tombstone needs no more."""
_TOGETHER: Final = 500


@dataclass(slots=True)
class Known:
    """An aggregate as this process last stored it; its published entries are taken out, their ids kept in `gone`."""

    aggregate: Aggregate[Any]
    gone: list[str]
    size: int


class Cache:
    """Aggregates as this process last wrote them. A stale one costs a lost race, never a wrong write.

    Whoever takes one out owns it, and puts it back only when it is stored as it is: what a handler changed before it
    failed, or before it lost the race, is never seen again. Bounded by the bytes of their documents, of which what is
    kept here is no more than a few times the size.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._known: OrderedDict[tuple[str, str], Known] = OrderedDict()
        self._most_bytes = most_bytes
        self._bytes = 0

    def __len__(self) -> int:
        """Count the aggregates kept."""
        return len(self._known)

    def look(self, kind: str, aggregate: str) -> Aggregate[Any] | None:
        """Show an aggregate, which must not be changed."""
        known = self._known.get((kind, aggregate))
        return known.aggregate if known else None

    def take(self, kind: str, aggregate: str) -> Known | None:
        """Give an aggregate away."""
        known = self._known.pop((kind, aggregate), None)
        if known is not None:
            self._bytes -= known.size
        return known

    def put(self, kind: str, known: Known) -> None:
        """Keep an aggregate, and drop the oldest beyond the bound."""
        self.take(kind, known.aggregate.id)
        self._known[kind, known.aggregate.id] = known
        self._bytes += known.size
        while self._bytes > self._most_bytes:
            self._bytes -= self._known.popitem(last=False)[1].size


class Ended:
    """Ended aggregates whose events are all on the bus, until the store has made tombstones of them.

    It only saves wakes: what is forgotten here, with its process, is found when its wake is due.
    """

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, int]] = {}

    def add(self, kind: str, aggregate: Aggregate[Any], size: int) -> None:
        """Note one, if nothing of it is left to do and its document is small enough to stay as it is."""
        busy = aggregate.activities or aggregate.deferred or aggregate.timers or aggregate.quarantined
        if aggregate.closed and not busy and size <= SMALL_BYTES:
            self._versions.setdefault(kind, {})[aggregate.id] = aggregate.version

    def take(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Give all away, as the versions of aggregates of a kind, a few hundred at once."""
        noted, self._versions = self._versions, {}
        for kind, versions in noted.items():
            names = list(versions)
            for start in range(0, len(names), _TOGETHER):
                yield kind, {name: versions[name] for name in names[start : start + _TOGETHER]}


class Published:
    """Ids of events this process knows to be durable on the bus."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, event_id: str) -> None:
        """Note one."""
        self._ids[event_id] = None
        if len(self._ids) > _PUBLISHED_KEPT:
            self._ids.popitem(last=False)

    def discard(self, event_id: str) -> None:
        """Forget one that no outbox holds any more."""
        self._ids.pop(event_id, None)

    def __contains__(self, event_id: str) -> bool:
        """Say whether it is known."""
        return event_id in self._ids
