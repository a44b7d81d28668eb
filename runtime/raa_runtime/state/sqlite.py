"""The document store of the embedded mode: one SQLite file per service, every commit on disk before it counts."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json

from raa_runtime.errors import DependencyUnavailable, Misconfigured, PermanentError
from raa_runtime.scope import TenantScope
from raa_runtime.state.port import Document, KindSpec, Outcome, Process, Write

T = TypeVar("T")
_FULL_SYNC = 2
# asked only of rows that are due: few, and an index finds them
_IS_TOMBSTONE = "json_extract(CAST(doc AS TEXT), '$.tombstone')"
# raised before the statement runs, by a value it cannot hold: the fault of one write, not of the file
_UNSTORABLE = (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError, OverflowError, UnicodeError)


def connect(path: Path, *, isolation: None = None) -> sqlite3.Connection:
    """Open a SQLite file as this project uses it: write-ahead log, synchronous=FULL, usable from any one thread."""
    connection = sqlite3.connect(path, isolation_level=isolation, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={_FULL_SYNC}")
    connection.execute("PRAGMA busy_timeout=5000")
    if connection.execute("PRAGMA synchronous").fetchone()[0] != _FULL_SYNC:
        raise Misconfigured(f"{path}: SQLite does not accept synchronous=FULL; use another file system")
    return connection


class SqliteStore:
    """A `DocumentStore` in one file. Reads run in the caller's thread, writes in one thread of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite-{path.stem}")
        self._kinds: dict[str, KindSpec] = {}

    async def start(self, kinds: Sequence[KindSpec]) -> None:
        """Open the file and create what is missing."""
        self._kinds = {kind.name: kind for kind in kinds}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = connect(self._path)
            self._create_tables()
            self._reader = connect(self._path)
        except (sqlite3.Error, OSError) as problem:
            raise DependencyUnavailable(f"{self._path}: {problem}; check the folder's space and permissions") from None

    def _create_tables(self) -> None:
        run = self._writer.execute
        run("CREATE TABLE IF NOT EXISTS processes (incarnation TEXT PRIMARY KEY, instance TEXT, beat INT, stopped INT)")
        run("CREATE TABLE IF NOT EXISTS pings (id INT PRIMARY KEY)")
        for kind in self._kinds.values():
            marks = "".join(f', "mark_{name}"' for name in kind.indexes)
            run(
                f'CREATE TABLE IF NOT EXISTS "{kind.name}" (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, part INT, '
                f"version INT NOT NULL, write_id TEXT NOT NULL, wake_at REAL, owners TEXT NOT NULL{marks}, "
                "doc BLOB NOT NULL) WITHOUT ROWID"
            )
            run(f'CREATE INDEX IF NOT EXISTS "{kind.name}_wake" ON "{kind.name}" (wake_at) WHERE wake_at IS NOT NULL')
            run(f'CREATE INDEX IF NOT EXISTS "{kind.name}_owner" ON "{kind.name}" (owners) WHERE owners <> \'\'')
            for name in kind.indexes:
                run(
                    f'CREATE INDEX IF NOT EXISTS "{kind.name}_mark_{name}" ON "{kind.name}" (tenant, "mark_{name}") '
                    f'WHERE "mark_{name}" IS NOT NULL'
                )

    async def close(self) -> None:
        """Close the file."""
        await self._write(self._writer.close)
        self._reader.close()
        self._writer_thread.shutdown(wait=False)

    async def _write(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer_thread, work)
        except sqlite3.Error as problem:
            raise DependencyUnavailable(f"{self._path}: {problem}") from None

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as problem:
            raise DependencyUnavailable(f"{self._path}: {problem}") from None

    async def find(self, scope: TenantScope, kind: str, aggregate: str) -> Document | None:
        """Load one document of this tenant."""
        rows = self._rows(f'SELECT doc FROM "{kind}" WHERE id = ? AND tenant = ?', (aggregate, scope.tenant))
        return from_json(rows[0][0]) if rows else None

    async def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Write a batch in one transaction; when it fails as a whole, nothing of it is stored."""
        return await self._write(lambda: self._commit(writes))

    def _commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._put_or_refuse(write) for write in writes]
            self._writer.execute("COMMIT")
        finally:
            if self._writer.in_transaction:  # it failed, whatever it was; the next batch needs a clean connection
                self._writer.execute("ROLLBACK")
        return outcomes

    def _put_or_refuse(self, write: Write) -> Outcome | Exception:
        try:
            return self._put(write)
        except _UNSTORABLE as problem:
            return PermanentError(f"{write.kind} {write.document['_id']} cannot be stored: {problem}")

    def _put(self, write: Write) -> Outcome:
        document = write.document
        columns = {
            "id": document["_id"],
            "tenant": document["tenant"],
            "part": document["partition"],
            "version": document["version"],
            "write_id": document["write_id"],
            "wake_at": document["wake_at"],
            "owners": " ".join(document["owners"]),
        }
        columns |= {f"mark_{name}": document["marks"].get(name) for name in self._kinds[write.kind].indexes}
        columns["doc"] = write.encoded
        names = ", ".join(f'"{name}"' for name in columns)
        if write.expected == 0:
            holes = ", ".join("?" * len(columns))
            sql = f'INSERT INTO "{write.kind}" ({names}) VALUES ({holes}) ON CONFLICT DO NOTHING'
            cursor = self._writer.execute(sql, tuple(columns.values()))
        else:
            pairs = ", ".join(f'"{name}" = ?' for name in columns)
            sql = f'UPDATE "{write.kind}" SET {pairs} WHERE id = ? AND version = ?'
            cursor = self._writer.execute(sql, (*columns.values(), document["_id"], write.expected))
        return "stored" if cursor.rowcount == 1 else "lost"

    async def due(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name due aggregates, earliest first."""
        return self._due(kind, now, partitions, f"NOT {_IS_TOMBSTONE}", limit)

    async def expired(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name tombstones whose time has come."""
        return self._due(kind, now, partitions, _IS_TOMBSTONE, limit)

    def _due(self, kind: str, now: float, partitions: Collection[int] | None, which: str, limit: int) -> list[str]:
        mine, values = _partition_filter(partitions)
        sql = f'SELECT id FROM "{kind}" WHERE wake_at <= ?{mine} AND {which} ORDER BY wake_at LIMIT ?'
        return [row[0] for row in self._rows(sql, (now, *values, limit))]

    async def purge(self, kind: str, aggregates: Collection[str], now: float) -> None:
        """Delete tombstones whose time has come."""
        holes = ", ".join("?" * len(aggregates))
        sql = f'DELETE FROM "{kind}" WHERE id IN ({holes}) AND wake_at <= ? AND {_IS_TOMBSTONE}'
        await self._write(lambda: self._writer.execute(sql, (*aggregates, now)))

    async def next_wake(self, kind: str, partitions: Collection[int] | None) -> float | None:
        """Give the earliest wake time."""
        mine, values = _partition_filter(partitions)
        wake: float | None = self._rows(f'SELECT min(wake_at) FROM "{kind}" WHERE wake_at > 0{mine}', values)[0][0]
        return wake

    async def owned_by(self, kind: str, incarnations: Collection[str], limit: int) -> list[str]:
        """Name aggregates with activities of these incarnations."""
        rows = self._rows(f"SELECT id, owners FROM \"{kind}\" WHERE owners <> ''")
        wanted = set(incarnations)
        return [row[0] for row in rows if wanted.intersection(row[1].split())][:limit]

    async def newest(self, scope: TenantScope, kind: str, mark: str, limit: int) -> list[Document]:
        """Load the documents with the highest values of a mark."""
        sql = (
            f'SELECT doc FROM "{kind}" WHERE tenant = ? AND "mark_{mark}" IS NOT NULL '
            f'ORDER BY "mark_{mark}" DESC LIMIT ?'
        )
        return [from_json(row[0]) for row in self._rows(sql, (scope.tenant, limit))]

    async def scan(
        self, scope: TenantScope, kind: str, mark: str, above: float | str | None, limit: int
    ) -> list[Document]:
        """Load documents in ascending order of a mark."""
        more, values = (f' AND "mark_{mark}" > ?', (above,)) if above is not None else ("", ())
        sql = (
            f'SELECT doc FROM "{kind}" WHERE tenant = ? AND "mark_{mark}" IS NOT NULL{more} '
            f'ORDER BY "mark_{mark}" LIMIT ?'
        )
        return [from_json(row[0]) for row in self._rows(sql, (scope.tenant, *values, limit))]

    async def beat(self, process: Process) -> None:
        """Write this process's heartbeat row."""
        values = (process.incarnation, process.instance, process.beat, process.stopped)
        await self._write(lambda: self._writer.execute("INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?)", values))

    async def processes(self) -> list[Process]:
        """Read all heartbeat rows."""
        rows = self._rows("SELECT incarnation, instance, beat, stopped FROM processes")
        return [Process(incarnation, instance, beat, bool(stopped)) for incarnation, instance, beat, stopped in rows]

    async def forget(self, incarnation: str) -> None:
        """Delete a heartbeat row."""
        sql = "DELETE FROM processes WHERE incarnation = ?"
        await self._write(lambda: self._writer.execute(sql, (incarnation,)))

    async def now(self) -> datetime:
        """Give the clock of this machine, which is the store's."""
        return datetime.now(UTC)

    async def ping(self) -> None:
        """Raise DependencyUnavailable when the file cannot be written, for example because the disk is full."""
        await self._write(self._try_writing)

    def _try_writing(self) -> None:
        self._writer.execute("INSERT OR REPLACE INTO pings VALUES (0)")


def _partition_filter(partitions: Collection[int] | None) -> tuple[str, tuple[int, ...]]:
    if partitions is None:
        return "", ()
    holes = ", ".join("?" * len(partitions))
    return f" AND (part IS NULL OR part IN ({holes}))", tuple(partitions)
