"""The document store of the embedded mode: one SQLite file per service, every commit on disk before it counts."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic_core import from_json, to_json

from raa_runtime.errors import DependencyUnavailable, Misconfigured, PermanentError
from raa_runtime.scope import TenantScope
from raa_runtime.state.port import Document, KindSpec, Outcome, Process, Write, as_tombstone

T = TypeVar("T")
_FULL_SYNC = 2
# the document is looked into only for rows that are due: few, and an index finds them
_IS_TOMBSTONE = "(shrunk OR json_extract(CAST(doc AS TEXT), '$.tombstone'))"
_LOADED: Final = "shrunk, wake_at, doc"
# rows that one statement writes: a power of two, so that few texts have to be prepared, and a bound for large ones
_MOST_ROWS: Final = 64
_STATEMENT_BYTES: Final = 1_000_000
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


def in_statements(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Split rows of these sizes into slices for one statement each: powers of two that are not too large together.

    SQLite lets go of the interpreter for every statement, and of a busy loop gets it back milliseconds later: many rows
    in one make a commit under load several times cheaper, and as much faster.
    """
    start = 0
    while start < len(sizes):
        count = min(_MOST_ROWS, 1 << (len(sizes) - start).bit_length() - 1)
        while count > 1 and sum(sizes[start : start + count]) > _STATEMENT_BYTES:
            count //= 2
        yield start, start + count
        start += count


class Table:
    """The SQL of one kind's table, for any number of documents at once."""

    def __init__(self, kind: KindSpec) -> None:
        self.name = kind.name
        self._marks = kind.indexes
        marks = [f"mark_{name}" for name in kind.indexes]
        self._columns = ["id", "tenant", "part", "version", "write_id", "wake_at", "owners", *marks, "doc"]
        self._hole = f"({', '.join('?' * len(self._columns))})"

    def create(self) -> Iterator[str]:
        """Give the statements that create what is missing."""
        marks = "".join(f', "mark_{name}"' for name in self._marks)
        yield (
            f'CREATE TABLE IF NOT EXISTS "{self.name}" (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, part INT, '
            f"version INT NOT NULL, write_id TEXT NOT NULL, wake_at REAL, owners TEXT NOT NULL{marks}, "
            "doc BLOB NOT NULL, shrunk INT NOT NULL DEFAULT 0)"
        )
        yield f'CREATE INDEX IF NOT EXISTS "{self.name}_wake" ON "{self.name}" (wake_at) WHERE wake_at IS NOT NULL'
        yield f'CREATE INDEX IF NOT EXISTS "{self.name}_owner" ON "{self.name}" (owners) WHERE owners <> \'\''
        for name in self._marks:
            yield (
                f'CREATE INDEX IF NOT EXISTS "{self.name}_mark_{name}" ON "{self.name}" (tenant, "mark_{name}") '
                f'WHERE "mark_{name}" IS NOT NULL'
            )

    def insert(self, rows: int) -> str:
        """Create documents that are not there."""
        names = ", ".join(f'"{name}"' for name in self._columns)
        return f'INSERT INTO "{self.name}" ({names}) VALUES {self._holes(rows)} ON CONFLICT DO NOTHING'

    def update(self, rows: int) -> str:
        """Replace documents whose version is the one before that of their row."""
        pairs = ", ".join(f'"{name}" = new.column{number}' for number, name in enumerate(self._columns[1:], start=2))
        version = self._columns.index("version") + 1
        return (
            f'UPDATE "{self.name}" AS old SET {pairs}, shrunk = 0 FROM (VALUES {self._holes(rows)}) AS new '
            f"WHERE old.id = new.column1 AND old.version = new.column{version} - 1"
        )

    def shrink(self, rows: int) -> str:
        """Make tombstones of rows that have these versions; the wake time comes first."""
        holes = ", ".join(["(?, ?)"] * rows)
        return (
            f'UPDATE "{self.name}" AS old SET shrunk = 1, wake_at = ?1 FROM (VALUES {holes}) AS new '
            "WHERE old.id = new.column1 AND old.version = new.column2"
        )

    def _holes(self, rows: int) -> str:
        return ", ".join([self._hole] * rows)

    def values(self, write: Write) -> list[Any]:
        """Give the row of a document."""
        document = write.document
        return [
            document["_id"],
            document["tenant"],
            document["partition"],
            write.expected + 1,
            document["write_id"],
            document["wake_at"],
            " ".join(document["owners"]),
            *[document["marks"].get(name) for name in self._marks],
            write.encoded,
        ]


class SqliteStore:
    """A `DocumentStore` in one file. Reads run in the caller's thread, writes in one thread of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite-{path.stem}")
        self._tables: dict[str, Table] = {}

    async def start(self, kinds: Sequence[KindSpec]) -> None:
        """Open the file and create what is missing."""
        self._tables = {kind.name: Table(kind) for kind in kinds}
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
        for table in self._tables.values():
            for statement in table.create():
                run(statement)
            if "shrunk" not in {row[1] for row in run(f'PRAGMA table_info("{table.name}")')}:  # a file of release 0.1
                run(f'ALTER TABLE "{table.name}" ADD COLUMN shrunk INT NOT NULL DEFAULT 0')

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
        return (await self.find_many(kind, [(scope, aggregate)]))[0]

    async def find_many(self, kind: str, wanted: Sequence[tuple[TenantScope, str]]) -> list[Document | None]:
        """Load many documents by one statement."""
        sql = f'SELECT id, tenant, {_LOADED} FROM "{kind}" WHERE id IN (SELECT value FROM json_each(?))'
        rows = self._rows(sql, (to_json([aggregate for _, aggregate in wanted]),))
        found = {(tenant, aggregate): loaded for aggregate, tenant, *loaded in rows}
        documents = [found.get((scope.tenant, aggregate)) for scope, aggregate in wanted]
        return [None if loaded is None else _decode(loaded) for loaded in documents]

    async def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Write a batch in one transaction; when it fails as a whole, nothing of it is stored."""
        return await self._write(lambda: self._commit(writes))

    def _commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        with self._transaction():
            return self._put_all(writes)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        finally:
            if self._writer.in_transaction:  # it failed, whatever it was; the next batch needs a clean connection
                self._writer.execute("ROLLBACK")

    def _put_all(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        if len({(write.kind, write.document["_id"]) for write in writes}) < len(writes):
            return [self._put_or_refuse(write) for write in writes]  # one of them follows another
        alike: dict[tuple[str, bool], list[int]] = {}
        for number, write in enumerate(writes):
            alike.setdefault((write.kind, write.expected == 0), []).append(number)
        outcomes: list[Outcome | Exception] = ["lost"] * len(writes)
        for numbers in alike.values():
            for start, end in in_statements([len(writes[number].encoded) for number in numbers]):
                few = numbers[start:end]
                for number, outcome in zip(few, self._put_alike([writes[number] for number in few]), strict=True):
                    outcomes[number] = outcome
        return outcomes

    def _put_alike(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        try:
            stored = self._put(writes)
        except _UNSTORABLE:
            return [self._put_or_refuse(write) for write in writes]
        if stored == len(writes):
            return ["stored"] * stored
        return ["stored" if self._is_there(write) else "lost" for write in writes]

    def _put_or_refuse(self, write: Write) -> Outcome | Exception:
        try:
            return "stored" if self._put([write]) else "lost"
        except _UNSTORABLE as problem:
            return PermanentError(f"{write.kind} {write.document['_id']} cannot be stored: {problem}")

    def _put(self, writes: Sequence[Write]) -> int:
        """Run one statement for writes that all create, or all replace, documents of a kind; says how many it did."""
        table = self._tables[writes[0].kind]
        sql = table.insert(len(writes)) if writes[0].expected == 0 else table.update(len(writes))
        return self._writer.execute(sql, [value for write in writes for value in table.values(write)]).rowcount

    def _is_there(self, write: Write) -> bool:
        sql = f'SELECT 1 FROM "{write.kind}" WHERE id = ? AND write_id = ?'
        return bool(self._writer.execute(sql, (write.document["_id"], write.document["write_id"])).fetchall())

    async def shrink(self, kind: str, ended: Mapping[str, int], wake_at: float) -> None:
        """Make tombstones, in one transaction."""
        await self._write(lambda: self._shrink(self._tables[kind], list(ended.items()), wake_at))

    def _shrink(self, table: Table, ended: Sequence[tuple[str, int]], wake_at: float) -> None:
        with self._transaction():
            for start, end in in_statements([1] * len(ended)):
                values = [value for row in ended[start:end] for value in row]
                self._writer.execute(table.shrink(end - start), (wake_at, *values))

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
            f'SELECT {_LOADED} FROM "{kind}" WHERE tenant = ? AND "mark_{mark}" IS NOT NULL '
            f'ORDER BY "mark_{mark}" DESC LIMIT ?'
        )
        return [_decode(row) for row in self._rows(sql, (scope.tenant, limit))]

    async def scan(
        self, scope: TenantScope, kind: str, mark: str, above: float | str | None, limit: int
    ) -> list[Document]:
        """Load documents in ascending order of a mark."""
        more, values = (f' AND "mark_{mark}" > ?', (above,)) if above is not None else ("", ())
        sql = (
            f'SELECT {_LOADED} FROM "{kind}" WHERE tenant = ? AND "mark_{mark}" IS NOT NULL{more} '
            f'ORDER BY "mark_{mark}" LIMIT ?'
        )
        return [_decode(row) for row in self._rows(sql, (scope.tenant, *values, limit))]

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


def _decode(loaded: Sequence[Any]) -> Document:
    shrunk, wake_at, encoded = loaded
    document: Document = from_json(encoded)
    return as_tombstone(document, wake_at) if shrunk else document


def _partition_filter(partitions: Collection[int] | None) -> tuple[str, tuple[int, ...]]:
    if partitions is None:
        return "", ()
    holes = ", ".join("?" * len(partitions))
    return f" AND (part IS NULL OR part IN ({holes}))", tuple(partitions)
