"""Small values that may be lost: caches, counters of limits. Per tenant, with a time to live."""

from collections import OrderedDict
from datetime import timedelta
from typing import Protocol

from raa_runtime.clock import Clock, SystemClock
from raa_runtime.errors import PermanentError
from raa_runtime.scope import TenantScope

_MAX_ENTRIES = 100_000


class KeyValue(Protocol):
    """What the runtime needs of a cache. Every method raises DependencyUnavailable after at most a second."""

    async def get(self, scope: TenantScope, key: str) -> bytes | None:
        """Read this tenant's value, None when there is none or its time is over."""
        ...

    async def put(self, scope: TenantScope, key: str, value: bytes, ttl: timedelta | None = None) -> None:
        """Write a value; without `ttl` it stays until it is evicted."""
        ...

    async def delete(self, scope: TenantScope, key: str) -> None:
        """Delete a value; one that is not there is fine."""
        ...

    async def incr(self, scope: TenantScope, key: str, by: int = 1, ttl: timedelta | None = None) -> int:
        """Add to a counter and give its new value; `ttl` runs from the first addition.

        Raises PermanentError when the value is no number.
        """
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...

    async def ping(self) -> None:
        """Raise DependencyUnavailable when it does not answer."""
        ...


class InProcessKeyValue:
    """A `KeyValue` that ends with the process; the least recently used of 100,000 entries goes first."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._entries: OrderedDict[tuple[str, str], tuple[bytes, float | None]] = OrderedDict()

    async def get(self, scope: TenantScope, key: str) -> bytes | None:
        """Read a value."""
        entry = self._find((scope.tenant, key))
        return None if entry is None else entry[0]

    def _find(self, place: tuple[str, str]) -> tuple[bytes, float | None] | None:
        entry = self._entries.get(place)
        if entry is None:
            return None
        if entry[1] is not None and entry[1] <= self._clock.monotonic():
            del self._entries[place]
            return None
        self._entries.move_to_end(place)
        return entry

    def _store(self, place: tuple[str, str], value: bytes, until: float | None) -> None:
        self._entries[place] = (value, until)
        self._entries.move_to_end(place)
        if len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _until(self, ttl: timedelta | None) -> float | None:
        return None if ttl is None else self._clock.monotonic() + ttl.total_seconds()

    async def put(self, scope: TenantScope, key: str, value: bytes, ttl: timedelta | None = None) -> None:
        """Write a value."""
        self._store((scope.tenant, key), value, self._until(ttl))

    async def delete(self, scope: TenantScope, key: str) -> None:
        """Delete a value."""
        self._entries.pop((scope.tenant, key), None)

    async def incr(self, scope: TenantScope, key: str, by: int = 1, ttl: timedelta | None = None) -> int:
        """Add to a counter."""
        place = (scope.tenant, key)
        value, until = self._find(place) or (b"0", self._until(ttl))
        try:
            total = int(value) + by
        except ValueError:
            raise not_a_number(key) from None
        self._store(place, b"%d" % total, until)
        return total

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()

    async def ping(self) -> None:
        """Answer: it is this process."""


def not_a_number(key: str) -> PermanentError:
    """Build the error for counting with a value that is none."""
    return PermanentError(f"the value of {key!r} is no number; use another key for the counter")
