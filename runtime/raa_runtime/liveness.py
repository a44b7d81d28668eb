"""Which processes are alive: one heartbeat row each, watched on the observer's own clock."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from raa_runtime.clock import Clock
from raa_runtime.errors import LeaseLost
from raa_runtime.state.port import DocumentStore, Process

FORGET_SECONDS: Final = 60.0
"""How long a dead process's row stays: a write of its may arrive late, and its owner must still be known as dead."""


def new_incarnation(instance: str) -> str:
    """Name one run of a process: `<instance>:<pid>:<random>`, without white space."""
    return f"{instance.replace(' ', '_')}:{os.getpid()}:{secrets.token_hex(4)}"


def _may_run(incarnation: str) -> bool:
    """Say whether a former incarnation of our own name could still be a process of this machine.

    If not, it is dead at once. If so (two processes were given one name, or its pid is used again) its silence decides.
    """
    pid = 0
    with suppress(ValueError):
        pid = int(incarnation.split(":")[-2])
    if pid in {0, os.getpid()}:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(slots=True)
class _Sighting:
    beat: int
    at: float
    moved: bool = False


class Liveness:
    """Keep this process's lease and notice when another's is over."""

    def __init__(self, store: DocumentStore, clock: Clock, instance: str, lease_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._own = Process(new_incarnation(instance), instance, 0)
        self._lease_seconds = lease_seconds
        self._renewed = 0.0
        self._seen: dict[str, _Sighting] = {}
        self._died: dict[str, float] = {}
        self._alive: frozenset[str] = frozenset()
        self.dead: frozenset[str] = frozenset()
        self.namesake: str | None = None
        self.lapses = 0
        """how often it was silent for so long that others may have taken over what it was running"""

    @property
    def incarnation(self) -> str:
        """Name this run of this process."""
        return self._own.incarnation

    async def beat(self) -> None:
        """Renew the lease and look at the others; afterwards `dead` names those whose work may be taken over."""
        before = self._clock.boottime()
        self._own = replace(self._own, beat=self._own.beat + 1)
        await self._store.beat(self._own)
        if self._renewed and before - self._renewed > self._trusted_seconds:
            self.lapses += 1
        self._renewed = before
        rows = [row for row in await self._store.processes() if row.incarnation != self.incarnation]
        self.dead = frozenset(row.incarnation for row in rows if self._is_dead(row))
        self._alive = frozenset(row.incarnation for row in rows) - self.dead
        now, present = self._clock.monotonic(), self._alive | self.dead
        self._died = {incarnation: self._died.get(incarnation, now) for incarnation in self.dead}
        self._seen = {incarnation: sighting for incarnation, sighting in self._seen.items() if incarnation in present}
        mine = {row.incarnation for row in rows if row.instance == self._own.instance}
        self.namesake = min(mine & self._alive, default=None)

    def lives(self, incarnation: str) -> bool:
        """Say whether this is a process that was alive at the last beat, or this one."""
        return incarnation == self.incarnation or incarnation in self._alive

    def long_dead(self) -> list[str]:
        """Name those that were seen dead for so long that no write of theirs is under way any more."""
        now = self._clock.monotonic()
        return [incarnation for incarnation, since in self._died.items() if now - since > FORGET_SECONDS]

    def _is_dead(self, row: Process) -> bool:
        if row.stopped:
            return True
        now, before = self._clock.monotonic(), self._seen.get(row.incarnation)
        if before is None or before.beat != row.beat:
            self._seen[row.incarnation] = _Sighting(row.beat, now, moved=before is not None)
        sighting = self._seen[row.incarnation]
        # A former run of ours is dead at once. One that goes on beating is a process that was given our name, perhaps
        # where we cannot see its pid: another container or machine.
        former = row.instance == self._own.instance and not sighting.moved and not _may_run(row.incarnation)
        return former or now - sighting.at > self._lease_seconds

    @property
    def _trusted_seconds(self) -> float:
        return self._lease_seconds * 0.8

    def check(self) -> None:
        """Raise LeaseLost when this process may count as dead to others."""
        silent = self._clock.boottime() - self._renewed
        if silent > self._trusted_seconds:
            raise LeaseLost(f"no heartbeat for {silent:.1f} s; another process may have taken over")

    async def forget(self, incarnation: str) -> None:
        """Remove a dead process's row once nothing of its work remains; if it lives after all, it beats again."""
        await self._store.forget(incarnation)

    async def stop(self) -> None:
        """Give up the lease, so that others take over at once."""
        await self._store.beat(replace(self._own, beat=self._own.beat + 1, stopped=True))
