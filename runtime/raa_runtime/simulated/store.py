"""The `DocumentStore` of a simulated world: one server per service, and one client per process of it."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from raa_runtime.clock import Clock
from raa_runtime.errors import DependencyUnavailable, PermanentError
from raa_runtime.scope import TenantScope
from raa_runtime.simulated.chance import Chance
from raa_runtime.simulated.clock import SkewedClock
from raa_runtime.simulated.wire import Server, Wire
from raa_runtime.state.port import Document, KindSpec, Outcome, Process, Write, as_tombstone

LARGEST_NUMBER: Final = 2**63
STALE_SECONDS: Final = 1.0
Stored = Callable[[str, Document], None]


class Row(NamedTuple):
    """One document, the way it was before, and when it changed."""

    document: Document
    encoded: bytes
    before: "Row | None"
    at: float


class StoreServer(Server):
    """What one service has stored. It survives every process."""

    def __init__(self, name: str, chance: Chance) -> None:
        super().__init__(name, chance)
        self.kinds: dict[str, dict[str, Row]] = {}
        self.processes: dict[str, Process] = {}
        self.observers: list[Stored] = []

    def documents(self, kind: str, *, stale: bool = False) -> Iterable[Row]:
        """Give all documents of a kind; a stale look sees those that have just changed as they were before."""
        rows = self.kinds.get(kind, {}).values()
        if not stale:
            return rows
        limit = asyncio.get_running_loop().time() - STALE_SECONDS
        seen = (row.before if row.at > limit else row for row in rows)
        return [row for row in seen if row is not None]

    def put(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Apply a batch; one that holds a document nobody can store may fail as a whole, and then stores nothing."""
        bad = [index for index, write in enumerate(writes) if not _storable(write)]
        if bad and self.chance.happens(self.chance.weather.bad_batch):
            raise PermanentError(f"{len(writes)} writes at once: one of them cannot be stored")
        said: list[Outcome | Exception] = [
            _unstorable(write) if index in bad else self._put(write) for index, write in enumerate(writes)
        ]
        self.changed()
        return said

    def _put(self, write: Write) -> Outcome:
        rows, name = self.kinds.setdefault(write.kind, {}), write.document["_id"]
        before = rows.get(name)
        if (before.document["version"] if before else 0) != write.expected:
            return "lost"
        document = from_json(write.encoded)
        older = before._replace(before=None) if before else None
        rows[name] = Row(document, write.encoded, older, asyncio.get_running_loop().time())
        for observe in self.observers:
            observe(write.kind, document)
        return "stored"

    def shrink(self, kind: str, ended: Mapping[str, int], wake_at: float) -> None:
        """Make tombstones of what is still at these versions."""
        rows = self.kinds.setdefault(kind, {})
        for name, version in ended.items():
            row = rows.get(name)
            if row is not None and row.document["version"] == version:
                loaded = to_json(as_tombstone(row.document, wake_at))
                # as in a real store the outbox stays where it was, and nobody sees it any more
                document = row.document | {"tombstone": True, "wake_at": wake_at}
                rows[name] = Row(document, loaded, row._replace(before=None), asyncio.get_running_loop().time())
        self.changed()

    def is_ours(self, write: Write) -> bool:
        """Say whether what is stored now is this very write."""
        row = self.kinds.get(write.kind, {}).get(write.document["_id"])
        return row is not None and bool(row.document["write_id"] == write.document["write_id"])


def _storable(write: Write) -> bool:
    return not any(isinstance(value, int) and value >= LARGEST_NUMBER for value in write.document["marks"].values())


def _unstorable(write: Write) -> PermanentError:
    return PermanentError(f"{write.kind} {write.document['_id']} cannot be stored: a number is too large")


class SimulatedStore:
    """One process's connection to its service's store."""

    def __init__(self, server: StoreServer, clock: Clock | None = None) -> None:
        self._server = server
        self._wire = Wire(server)
        self._clock = clock or SkewedClock()

    async def start(self, kinds: Sequence[KindSpec]) -> None:
        """Open it."""
        await self._wire.ask(lambda: [self._server.kinds.setdefault(kind.name, {}) for kind in kinds])

    async def close(self) -> None:
        """Close it."""

    async def find(self, scope: TenantScope, kind: str, aggregate: str) -> Document | None:
        """Load one document of this tenant."""

        def look() -> Document | None:
            row = self._server.kinds[kind].get(aggregate)
            return from_json(row.encoded) if row and row.document["tenant"] == scope.tenant else None

        return await self._wire.ask(look)

    async def find_many(self, kind: str, wanted: Sequence[tuple[TenantScope, str]]) -> list[Document | None]:
        """Load many documents, each by a question of its own, so that they may be of different moments."""
        return [await self.find(scope, kind, aggregate) for scope, aggregate in wanted]

    async def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Write a batch; after an unknown reply what is stored decides, if it can be asked."""
        if not writes:
            return []
        try:
            return await self._wire.ask(lambda: self._server.put(writes), change="write")
        except DependencyUnavailable:
            return await self._wire.ask(lambda: self._compare(writes), change="write")

    def _compare(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Say of each write whether it is what is stored; one that never came can be sent again."""
        return ["stored" if self._server.is_ours(write) else self._again(write) for write in writes]

    def _again(self, write: Write) -> Outcome | Exception:
        row = self._server.kinds.get(write.kind, {}).get(write.document["_id"])
        if (row.document["version"] if row else 0) == write.expected:
            return self._server.refusal()
        return "lost"

    def _rows(self, kind: str) -> Iterable[Row]:
        chance = self._server.chance
        return self._server.documents(kind, stale=chance.happens(chance.weather.stale))

    async def shrink(self, kind: str, ended: Mapping[str, int], wake_at: float) -> None:
        """Make tombstones."""
        await self._wire.ask(lambda: self._server.shrink(kind, ended, wake_at), change="write")

    async def due(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name due aggregates, earliest first."""

        def look() -> list[str]:
            found = [(at, name) for at, name in self._wakes(kind, partitions) if at <= now]
            return [name for _, name in sorted(found)[:limit]]

        return await self._wire.ask(look)

    async def expired(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name tombstones whose time has come."""

        def look() -> list[str]:
            found = [(at, name) for at, name in self._wakes(kind, partitions, tombstones=True) if at <= now]
            return [name for _, name in sorted(found)[:limit]]

        return await self._wire.ask(look)

    async def purge(self, kind: str, aggregates: Collection[str], now: float) -> None:
        """Delete tombstones whose time has come."""

        def delete() -> None:
            rows = self._server.kinds[kind]
            for name in aggregates:
                document = rows[name].document if name in rows else {"wake_at": None}
                if document["wake_at"] is not None and document["wake_at"] <= now and document["tombstone"]:
                    del rows[name]

        await self._wire.ask(delete, change="write")

    def _wakes(
        self, kind: str, partitions: Collection[int] | None, *, tombstones: bool = False
    ) -> list[tuple[float, str]]:
        return [
            (row.document["wake_at"], row.document["_id"])
            for row in self._rows(kind)
            if row.document["wake_at"] is not None
            and row.document["tombstone"] == tombstones
            and (partitions is None or row.document["partition"] is None or row.document["partition"] in partitions)
        ]

    async def next_wake(self, kind: str, partitions: Collection[int] | None) -> float | None:
        """Give the earliest wake time."""
        return await self._wire.ask(lambda: min((at for at, _ in self._wakes(kind, partitions)), default=None))

    async def owned_by(self, kind: str, incarnations: Collection[str], limit: int) -> list[str]:
        """Name aggregates with activities of these incarnations."""
        wanted = set(incarnations)

        def look() -> list[str]:
            rows = [row.document for row in self._rows(kind) if wanted.intersection(row.document["owners"])]
            return [document["_id"] for document in rows][:limit]

        return await self._wire.ask(look)

    async def newest(self, scope: TenantScope, kind: str, mark: str, limit: int) -> list[Document]:
        """Load the documents with the highest values of a mark."""
        return await self._wire.ask(lambda: self._marked(scope, kind, mark)[::-1][:limit])

    async def scan(
        self, scope: TenantScope, kind: str, mark: str, above: float | str | None, limit: int
    ) -> list[Document]:
        """Load documents in ascending order of a mark."""

        def look() -> list[Document]:
            found = self._marked(scope, kind, mark)
            return [item for item in found if above is None or item["marks"][mark] > above][:limit]

        return await self._wire.ask(look)

    def _marked(self, scope: TenantScope, kind: str, mark: str) -> list[Document]:
        own = [row for row in self._rows(kind) if row.document["tenant"] == scope.tenant]
        marked: list[Any] = [from_json(row.encoded) for row in own if mark in row.document["marks"]]
        return sorted(marked, key=lambda document: document["marks"][mark])

    async def beat(self, process: Process) -> None:
        """Write a heartbeat row."""
        await self._wire.ask(lambda: self._server.processes.update({process.incarnation: process}), change="write")

    async def processes(self) -> list[Process]:
        """Read all heartbeat rows."""
        return await self._wire.ask(lambda: list(self._server.processes.values()))

    async def forget(self, incarnation: str) -> None:
        """Delete a heartbeat row."""
        await self._wire.ask(lambda: self._server.processes.pop(incarnation, None), change="write")

    async def now(self) -> datetime:
        """Give the store's own clock, which is right."""
        return await self._wire.ask(self._clock.now)

    async def ping(self) -> None:
        """Ask whether it is there."""
        await self._wire.ask(lambda: None)
