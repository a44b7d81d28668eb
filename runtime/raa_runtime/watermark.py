"""Which offset of a partition may be committed: everything before it is settled."""

from collections import deque
from datetime import datetime


class Watermark:
    """Track the records of one partition from fetch to settlement. Offsets are taken in ascending order."""

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._times: deque[datetime | None] = deque()
        self._settled: set[int] = set()
        self._next: int | None = None
        self._committed: int | None = None

    def take(self, offset: int, at: datetime | None = None) -> None:
        """Note that a record was fetched; `at` is its time."""
        self._open.append(offset)
        self._times.append(at)

    def settle(self, offset: int) -> None:
        """Note that nothing remains to be done for a record."""
        self._settled.add(offset)
        while self._open and self._open[0] in self._settled:
            self._settled.discard(self._open[0])
            self._next = self._open.popleft() + 1
            self._times.popleft()

    @property
    def in_flight(self) -> int:
        """Count the records between the watermark and the newest fetched."""
        return len(self._open)

    @property
    def oldest(self) -> datetime | None:
        """Give the time of the oldest record that is not settled, if there is one and it is known."""
        return self._times[0] if self._times else None

    def to_commit(self) -> int | None:
        """Give the next offset to commit, None when that has not moved since `committed`."""
        return self._next if self._next != self._committed else None

    def committed(self, offset: int) -> None:
        """Note that the group's offset was stored."""
        self._committed = offset
