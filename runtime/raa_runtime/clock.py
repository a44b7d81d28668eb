"""Time as a dependency."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is, on three clocks."""

    def now(self) -> datetime:
        """Give the wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        ...

    def boottime(self) -> float:
        """Give seconds that go on while the machine sleeps; leases are checked on it."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Give the wall time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give the monotonic time."""
        return time.monotonic()

    def boottime(self) -> float:
        """Give CLOCK_BOOTTIME where there is one, else the monotonic time."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
