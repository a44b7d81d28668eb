"""What a bus or a store keeps less safely than it could: reported at the start, never a reason not to start."""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from raa_runtime.guard import outcome_of
from raa_runtime.telemetry import Logger


@runtime_checkable
class TellsWeaknesses(Protocol):
    """A bus or store that knows how safe its servers keep what they confirmed."""

    async def weaknesses(self, topics: Collection[str]) -> list[str]:
        """Name, in words, what is weaker than a majority of three disks; raises DependencyUnavailable."""
        ...


async def weaknesses(*parts: object, topics: Collection[str]) -> list[str]:
    """Ask every part that can tell."""
    return [told for part in parts if isinstance(part, TellsWeaknesses) for told in await part.weaknesses(topics)]


async def report(log: Logger, *parts: object, topics: Collection[str]) -> None:
    """Log what the servers keep less safely than promised; one that may not be asked is no reason to stop."""
    told = await outcome_of(lambda: weaknesses(*parts, topics=topics))
    if isinstance(told, Exception):
        log.info("durability_unknown", reason=str(told))
        return
    for weakness in told:
        log.warning("weaker_durability", reason=weakness)
