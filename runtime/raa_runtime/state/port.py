"""What the runtime needs of a document store. SQLite and MongoDB adapters implement exactly this."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from raa_runtime.scope import TenantScope

Document = dict[str, Any]
"""An aggregate as JSON: `_id`, `tenant`, `partition`, `version`, `write_id`, `wake_at`, `owners`, `marks`, `tombstone`
and the rest are readable without decoding `state`. Times are seconds since the epoch."""


def as_tombstone(document: Document, wake_at: float) -> Document:
    """Give a document as it is loaded after it was shrunk."""
    return document | {"tombstone": True, "outbox": [], "wake_at": wake_at}


class KindSpec(NamedTuple):
    """A collection: its name and the marks to index, as `(tenant, mark)`."""

    name: str
    indexes: tuple[str, ...] = ()


@dataclass(slots=True)
class Write:
    """A conditional write: store `document` if the stored version is `expected` (0: if there is none).

    `encoded` is the document as JSON bytes, already size-checked.
    """

    kind: str
    document: Document
    encoded: bytes
    expected: int


Outcome = Literal["stored", "lost"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process that runs activities. It is alive while `beat` changes; `instance` outlives restarts."""

    incarnation: str
    instance: str
    beat: int
    stopped: bool = False


class DocumentStore(Protocol):
    """One service's own database."""

    async def start(self, kinds: Sequence[KindSpec]) -> None:
        """Open, create collections and indexes; raises Misconfigured when durability is weaker than promised."""
        ...

    async def close(self) -> None:
        """Close."""
        ...

    async def find(self, scope: TenantScope, kind: str, aggregate: str) -> Document | None:
        """Load one document of this tenant; raises DependencyUnavailable."""
        ...

    async def find_many(self, kind: str, wanted: Sequence[tuple[TenantScope, str]]) -> list[Document | None]:
        """Load many documents of a kind at once, each of its tenant, None where there is none."""
        ...

    async def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Write a batch durably, each by itself conditional; one entry per write: stored, lost, or what failed it.

        A failure of one write does not affect the others. After an unknown reply the entry is decided by comparing
        `write_id`. Raises DependencyUnavailable when nothing can be said about any of them.
        """
        ...

    async def shrink(self, kind: str, ended: Mapping[str, int], wake_at: float) -> None:
        """Make tombstones of those of these aggregates that are still at these versions, at most 500 of them.

        Nothing else of them is written: whoever loads one finds `tombstone`, this `wake_at` and an empty outbox, beside
        the state as it was.
        """
        ...

    async def due(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name aggregates whose `wake_at` has come, earliest first: of these partitions or of none (None: of all).

        Tombstones are not among them; when their time has come they are `expired`.
        """
        ...

    async def expired(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name the tombstones whose `wake_at` has come, of these partitions as for `due`."""
        ...

    async def purge(self, kind: str, aggregates: Collection[str], now: float) -> None:
        """Delete those of these aggregates that are tombstones whose `wake_at` has come, at most 500 of them."""
        ...

    async def next_wake(self, kind: str, partitions: Collection[int] | None) -> float | None:
        """Give the earliest `wake_at` there is."""
        ...

    async def owned_by(self, kind: str, incarnations: Collection[str], limit: int) -> list[str]:
        """Name aggregates with running activities of these incarnations."""
        ...

    async def newest(self, scope: TenantScope, kind: str, mark: str, limit: int) -> list[Document]:
        """Load this tenant's documents with the highest values of a mark, highest first."""
        ...

    async def scan(
        self, scope: TenantScope, kind: str, mark: str, above: float | str | None, limit: int
    ) -> list[Document]:
        """Load this tenant's documents that have a mark, in its ascending order, only values `above` if given."""
        ...

    async def beat(self, process: Process) -> None:
        """Write this process's heartbeat row."""
        ...

    async def processes(self) -> list[Process]:
        """Read all heartbeat rows."""
        ...

    async def forget(self, incarnation: str) -> None:
        """Delete a heartbeat row."""
        ...

    async def now(self) -> datetime:
        """Give the store's own clock."""
        ...

    async def ping(self) -> None:
        """Raise DependencyUnavailable when the store does not answer within 2 seconds, or cannot write."""
        ...
