"""Which activities are this process's: its lease, what it takes over from the dead, what it is asked to stop."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raa_runtime.activities import Activities, Owned
from raa_runtime.liveness import Liveness
from raa_runtime.scope import scope_of
from raa_runtime.state.codec import Kind, decode
from raa_runtime.state.port import DocumentStore
from raa_runtime.wakes import Poller


@dataclass(frozen=True, slots=True)
class Ownership:
    """Know and keep what this process owns."""

    store: DocumentStore
    kinds: Mapping[str, Kind[Any]]
    liveness: Liveness

    async def keep(self, poller: Poller, activities: Activities, every_seconds: float) -> None:
        """Renew the lease, take over what dead processes ran, and stop what others ask to be stopped; for ever."""
        while True:
            await self.liveness.beat()
            dead = self.liveness.dead
            found = bool(dead) and await poller.reclaim(dead)
            for incarnation in self.liveness.long_dead():
                if not found or not await poller.reclaim({incarnation}):
                    await self.liveness.forget(incarnation)
            for kind, aggregate in await poller.to_stop(self.liveness.incarnation):
                await self._stop_own(activities, kind, aggregate)
            await asyncio.sleep(every_seconds)

    def owns(self, kind: str, aggregate: str, activity: str, epoch: int) -> Owned:
        """Make the question whether an activity is still this process's; it reads only after a lapse of the lease."""
        lapses = self.liveness.lapses

        async def still() -> bool:
            nonlocal lapses
            seen = self.liveness.lapses
            if seen == lapses:
                return True
            document = await self.store.find(scope_of(aggregate), kind, aggregate)
            found = decode(self.kinds[kind], document).activities.get(activity) if document else None
            if found is None or (found.owner, found.epoch) != (self.liveness.incarnation, epoch):
                return False
            lapses = seen
            return True

        return still

    async def _stop_own(self, activities: Activities, kind: Kind[Any], aggregate: str) -> None:
        """Stop what another process, which decides on this aggregate now, asks this one to stop."""
        document = await self.store.find(scope_of(aggregate), kind.name, aggregate)
        for activity in decode(kind, document).activities.values() if document else ():
            if activity.stopping and activity.owner == self.liveness.incarnation:
                activities.stop(kind.name, aggregate, activity.id)
