"""Read access to a service's own aggregates, for its queries and adapters."""

from collections.abc import Sequence
from typing import Any

from raa_runtime.scope import TenantScope
from raa_runtime.state.aggregate import Aggregate, S
from raa_runtime.state.codec import Kind, decode
from raa_runtime.state.port import Document, DocumentStore


class AggregateReader:
    """Read a service's own aggregates, one tenant at a time."""

    def __init__(self, store: DocumentStore, kind: Kind[S]) -> None:
        self._store, self._kind = store, kind

    async def find(self, scope: TenantScope, aggregate: str) -> Aggregate[Any] | None:
        """Load one, None if there is none; raises NewerState for one that only a newer release can read."""
        document = await self._store.find(scope, self._kind.name, aggregate)
        found = decode(self._kind, document) if document else None
        if found and found.unreadable:
            raise found.unreadable
        return found

    async def newest(self, scope: TenantScope, mark: str, limit: int) -> list[Aggregate[Any]]:
        """Load those with the highest values of a mark, without those this release cannot read."""
        return self._readable(await self._store.newest(scope, self._kind.name, mark, limit))

    async def scan(
        self, scope: TenantScope, mark: str, since: float | str | None = None, limit: int = 100_000
    ) -> list[Aggregate[Any]]:
        """Load those with a mark, ascending, above `since` if given, without those this release cannot read."""
        return self._readable(await self._store.scan(scope, self._kind.name, mark, since, limit))

    def _readable(self, documents: Sequence[Document]) -> list[Aggregate[Any]]:
        found = (decode(self._kind, document) for document in documents)
        return [aggregate for aggregate in found if not aggregate.unreadable]
