"""The clock of a sandbox: it stands where a recording says, goes on at the usual pace, and can be set."""

import time
from datetime import UTC, datetime, timedelta

from raa_runtime.clock import SystemClock


class RecordedClock(SystemClock):
    """Wall time as a task saw it. Monotonic and boot time stay the machine's own: leases and pauses are real."""

    def __init__(self) -> None:
        self._set_to = datetime.now(UTC)
        self._set_at = time.monotonic()

    def now(self) -> datetime:
        """Give the recorded time, and what has passed since it was set."""
        return self._set_to + timedelta(seconds=time.monotonic() - self._set_at)

    def set(self, at: datetime) -> None:
        """Go to a recorded time, forth or back; only while nothing is under way may it go back."""
        self._set_to, self._set_at = at, time.monotonic()
