"""The document store on MongoDB: one bulk write per kind and batch, each write a compare-and-set that names its loser.

A stored document has two parts: the header fields that queries need, as BSON of their own, and `doc`, the whole
aggregate as the JSON bytes it was encoded to anyway. So header fields are readable without decoding the state, keys
with dots or dollar signs need no escaping, numbers keep their JSON form, and nothing is encoded twice on the hot path.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from bson.errors import BSONError
from pydantic_core import from_json
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, ReplaceOne, UpdateMany
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from raa_runtime.errors import DependencyUnavailable, Misconfigured, PermanentError
from raa_runtime.scope import TenantScope
from raa_runtime.state.port import Document, KindSpec, Outcome, Process, Write, as_tombstone

_PROCESSES: Final = "processes"
_PINGS: Final = "pings"
_HEADER: Final[tuple[str, ...]] = (
    "_id",
    "tenant",
    "partition",
    "version",
    "write_id",
    "state_schema",
    "wake_tries",
    "quarantined",
    "closed",
    "tombstone",
    "updated_at",
)
_LOADED: Final = {"doc": 1, "tenant": 1, "shrunk": 1, "wake_at": 1}
_DURABLE: Final = WriteConcern(w="majority", j=True)
_DUPLICATE: Final = 11_000
_NOT_ALLOWED: Final = frozenset({13, 18})
# bad value, bad type, key too long, failed validation, forbidden field name, document too large
_CANNOT_STORE: Final = frozenset({2, 14, 17_280, 121, 52, 10_334})
_MEMBERS_FOR_MAJORITY: Final = 3
# a document may have 16 MiB, with its header beside the JSON
_MOST_BYTES: Final = 15_000_000
_PING_SECONDS: Final = 1.9
_CALL_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 60.0  # else the connections of a burst stay open for ever
_SELECT_SECONDS: Final = 3.0
# what encoding one document may raise; none of it is the fault of its neighbours
_UNENCODABLE: Final = (BSONError, OverflowError, UnicodeError, TypeError)

Verdict = Outcome | Exception
MongoDocument = dict[str, Any]


class MongoStore:
    """A `DocumentStore` in one database. Writes are acknowledged by a majority, on their disks."""

    def __init__(self, url: str, database: str) -> None:
        try:
            self._client: AsyncMongoClient[MongoDocument] = AsyncMongoClient(
                url,
                appname="raa",
                connect=False,
                serverSelectionTimeoutMS=int(_SELECT_SECONDS * 1000),
                connectTimeoutMS=int(_SELECT_SECONDS * 1000),
                socketTimeoutMS=int(_CALL_SECONDS * 1000),
                maxIdleTimeMS=int(_IDLE_SECONDS * 1000),
                w="majority",
                journal=True,
            )
        except (ConfigurationError, ValueError) as problem:
            raise Misconfigured(f"RAA_MONGO_URL is no MongoDB connection string: {problem}") from None
        # a database name may hold no dot, and a deployment's names do
        self._database = self._client.get_database(database.replace(".", "-"), write_concern=_DURABLE)
        self._confirming = ReadConcern("local")

    async def start(self, kinds: Sequence[KindSpec]) -> None:
        """Create indexes; raises DependencyUnavailable, and Misconfigured when the server does not keep its data."""
        async with _translated("opening the store"):
            await self._check_durability()
            for kind in kinds:
                collection = self._database[kind.name]
                await collection.create_index("wake_at", sparse=True)
                await collection.create_index("owners", sparse=True)
                for mark in kind.indexes:
                    await collection.create_index([("tenant", ASCENDING), (f"marks.{mark}", ASCENDING)])

    async def _check_durability(self) -> None:
        hello = await self._client.admin.command("hello")
        if "setName" in hello:
            self._confirming = ReadConcern("majority")
        status = await self._client.admin.command("serverStatus")
        if not status.get("storageEngine", {}).get("persistent", True):
            raise Misconfigured("this MongoDB keeps its data in memory only; use a storage engine that is persistent")

    async def weaknesses(self, topics: Collection[str]) -> list[str]:
        """Name what `w=majority, j=true`, which every write asks for, cannot mean on this server."""
        async with _translated("counting members"):
            hello = await self._client.admin.command("hello")
        members = len(hello.get("hosts", ())) or 1
        if members >= _MEMBERS_FOR_MAJORITY:
            return []
        return [f"MongoDB has {members} of the {_MEMBERS_FOR_MAJORITY} members that survive the loss of one's disk"]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def find(self, scope: TenantScope, kind: str, aggregate: str) -> Document | None:
        """Load one document of this tenant."""
        async with _translated("loading"):
            found = await self._database[kind].find_one({"_id": aggregate, "tenant": scope.tenant}, _LOADED)
        return None if found is None else _decode(found)

    async def find_many(self, kind: str, wanted: Sequence[tuple[TenantScope, str]]) -> list[Document | None]:
        """Load many documents by one query."""
        async with _translated("loading"):
            names = [aggregate for _, aggregate in wanted]
            cursor = self._database[kind].find({"_id": {"$in": names}}, _LOADED)
            found = {(row["tenant"], row["_id"]): row for row in await cursor.to_list()}
        rows = [found.get((scope.tenant, aggregate)) for scope, aggregate in wanted]
        return [None if row is None else _decode(row) for row in rows]

    async def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Write a batch, one bulk per kind; raises DependencyUnavailable when nothing can be said about any of them."""
        by_kind: dict[str, list[int]] = defaultdict(list)
        verdicts: list[Verdict] = [DependencyUnavailable("not written")] * len(writes)
        for index, write in enumerate(writes):
            if len(write.encoded) > _MOST_BYTES:  # the server would close the connection and write nothing of the batch
                verdicts[index] = _too_large(write)
            else:
                by_kind[write.kind].append(index)

        async def commit_kind(kind: str, indexes: list[int]) -> None:
            decided = await self._commit_kind(kind, [writes[index] for index in indexes])
            for index, verdict in zip(indexes, decided, strict=True):
                verdicts[index] = verdict

        await asyncio.gather(*(commit_kind(kind, indexes) for kind, indexes in by_kind.items()))
        if writes and all(isinstance(verdict, DependencyUnavailable) for verdict in verdicts):
            raise verdicts[0]  # type: ignore[misc] # mypy does not follow all()
        return verdicts

    async def _commit_kind(self, kind: str, writes: list[Write]) -> list[Verdict]:
        collection = self._database[kind]
        try:
            answer = await collection.bulk_write([_compare_and_set(write) for write in writes], ordered=False)
            failed, made = {}, answer.upserted_ids or {}
        except BulkWriteError as problem:
            if problem.details["writeConcernErrors"]:
                return await self._confirm(collection, writes)
            failed = {error["index"]: error for error in problem.details["writeErrors"]}
            made = {entry["index"]: entry["_id"] for entry in problem.details["upserted"]}
        except ServerSelectionTimeoutError as problem:
            return [_away("writing", problem)] * len(writes)  # nothing was sent
        except ConnectionFailure:
            return await self._confirm(collection, writes)
        except (*_UNENCODABLE, PyMongoError) as problem:
            return await self._one_by_one(kind, writes, problem)
        verdicts = [_verdict(failed.get(index)) for index in range(len(writes))]
        await self._take_back_revivals(collection, writes, made, verdicts)
        return verdicts

    async def _one_by_one(self, kind: str, writes: list[Write], problem: Exception) -> list[Verdict]:
        """Find out which write it was that a batch failed for."""
        if len(writes) > 1:
            return [verdict for write in writes for verdict in await self._commit_kind(kind, [write])]
        if isinstance(problem, OperationFailure):
            return [_refused(problem)]
        return [PermanentError(f"{kind} {writes[0].document['_id']} cannot be stored: {problem}")]

    async def _confirm(self, collection: AsyncCollection[MongoDocument], writes: list[Write]) -> list[Verdict]:
        """Decide by `write_id` after a reply got lost: the server may have written some, all or nothing."""
        confirming = collection.with_options(read_concern=self._confirming)
        wanted = {"_id": {"$in": [write.document["_id"] for write in writes]}}
        try:
            found = {entry["_id"]: entry async for entry in confirming.find(wanted, {"write_id": 1, "version": 1})}
        except PyMongoError as problem:
            return [_away("writing", problem)] * len(writes)
        return [_confirmed(write, found.get(write.document["_id"], {})) for write in writes]

    async def _take_back_revivals(
        self,
        collection: AsyncCollection[MongoDocument],
        writes: list[Write],
        made: dict[int, Any],
        verdicts: list[Verdict],
    ) -> None:
        """Delete what an upsert created although a stored version was expected: the aggregate had been deleted."""
        for index in made:
            write = writes[index]
            if write.expected:
                async with _translated("writing"):
                    await collection.delete_one({"_id": write.document["_id"], "write_id": write.document["write_id"]})
                verdicts[index] = "lost"

    async def shrink(self, kind: str, ended: Mapping[str, int], wake_at: float) -> None:
        """Make tombstones, by one statement per version there is among them."""
        by_version: dict[int, list[str]] = defaultdict(list)
        for name, version in ended.items():
            by_version[version].append(name)
        made = {"$set": {"tombstone": True, "shrunk": True, "wake_at": wake_at}}
        shrinking = [UpdateMany({"_id": {"$in": names}, "version": at}, made) for at, names in by_version.items()]
        async with _translated("shrinking what has ended"):
            if shrinking:
                await self._database[kind].bulk_write(shrinking, ordered=False)

    async def due(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name due aggregates, earliest first."""
        return await self._due(kind, now, partitions, {"$ne": True}, limit)

    async def expired(self, kind: str, now: float, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Name tombstones whose time has come."""
        return await self._due(kind, now, partitions, {"$eq": True}, limit)

    async def _due(
        self, kind: str, now: float, partitions: Collection[int] | None, tombstone: MongoDocument, limit: int
    ) -> list[str]:
        query = {"wake_at": {"$lte": now}, "tombstone": tombstone} | _of_partitions(partitions)
        async with _translated("looking for what is due"):
            found = self._database[kind].find(query, {"_id": 1}).sort("wake_at", ASCENDING).limit(limit)
            return [entry["_id"] async for entry in found]

    async def purge(self, kind: str, aggregates: Collection[str], now: float) -> None:
        """Delete tombstones whose time has come."""
        query = {"_id": {"$in": list(aggregates)}, "wake_at": {"$lte": now}, "tombstone": True}
        async with _translated("deleting what has ended"):
            await self._database[kind].delete_many(query)

    async def next_wake(self, kind: str, partitions: Collection[int] | None) -> float | None:
        """Give the earliest wake time."""
        query = {"wake_at": {"$gt": 0}} | _of_partitions(partitions)
        async with _translated("looking for the next wake"):
            found = await self._database[kind].find_one(query, {"wake_at": 1}, sort=[("wake_at", ASCENDING)])
        return None if found is None else float(found["wake_at"])

    async def owned_by(self, kind: str, incarnations: Collection[str], limit: int) -> list[str]:
        """Name aggregates with activities of these incarnations."""
        async with _translated("looking for owners"):
            found = self._database[kind].find({"owners": {"$in": list(incarnations)}}, {"_id": 1}).limit(limit)
            return [entry["_id"] async for entry in found]

    async def newest(self, scope: TenantScope, kind: str, mark: str, limit: int) -> list[Document]:
        """Load the documents with the highest values of a mark."""
        return await self._by_mark(scope, kind, mark, {"$ne": None}, DESCENDING, limit)

    async def scan(
        self, scope: TenantScope, kind: str, mark: str, above: float | str | None, limit: int
    ) -> list[Document]:
        """Load documents in ascending order of a mark."""
        condition = {"$ne": None} if above is None else {"$gt": above}
        return await self._by_mark(scope, kind, mark, condition, ASCENDING, limit)

    async def _by_mark(
        self, scope: TenantScope, kind: str, mark: str, condition: dict[str, Any], direction: int, limit: int
    ) -> list[Document]:
        query = {"tenant": scope.tenant, f"marks.{mark}": condition}
        async with _translated(f"reading by {mark}"):
            found = self._database[kind].find(query, _LOADED).sort(f"marks.{mark}", direction).limit(limit)
            return [_decode(entry) async for entry in found]

    async def beat(self, process: Process) -> None:
        """Write this process's heartbeat row."""
        row = {
            "_id": process.incarnation,
            "instance": process.instance,
            "beat": process.beat,
            "stopped": process.stopped,
        }
        async with _translated("writing the heartbeat"):
            await self._database[_PROCESSES].replace_one({"_id": process.incarnation}, row, upsert=True)

    async def processes(self) -> list[Process]:
        """Read all heartbeat rows."""
        async with _translated("reading the heartbeats"):
            return [
                Process(row["_id"], row["instance"], row["beat"], row["stopped"])
                async for row in self._database[_PROCESSES].find()
            ]

    async def forget(self, incarnation: str) -> None:
        """Delete a heartbeat row."""
        async with _translated("deleting a heartbeat"):
            await self._database[_PROCESSES].delete_one({"_id": incarnation})

    async def now(self) -> datetime:
        """Give the server's clock."""
        async with _translated("asking for the time"):
            hello = await self._client.admin.command("hello")
        told = hello.get("localTime")
        return told.replace(tzinfo=UTC) if isinstance(told, datetime) else datetime.now(UTC)

    async def ping(self) -> None:
        """Write a row: a server that answers but cannot write is no store."""
        async with _translated("ping"), asyncio.timeout(_PING_SECONDS):
            await self._database[_PINGS].replace_one({"_id": "ping"}, {"_id": "ping"}, upsert=True)


@asynccontextmanager
async def _translated(doing: str) -> AsyncIterator[None]:
    """Turn the driver's errors into ours, here and nowhere else."""
    try:
        yield
    except OperationFailure as problem:
        raise _refused(problem) from problem
    except (PyMongoError, TimeoutError, OSError) as problem:
        if isinstance(problem, InvalidOperation | ConfigurationError):
            raise Misconfigured(f"MongoDB, {doing}: {problem}") from problem
        raise _away(doing, problem) from problem


def _away(doing: str, problem: Exception) -> DependencyUnavailable:
    return DependencyUnavailable(f"MongoDB does not answer, {doing}: {type(problem).__name__} {problem}")


def _refused(problem: OperationFailure) -> Exception:
    if problem.code in _NOT_ALLOWED:
        return Misconfigured(f"MongoDB refuses: {problem}; give the user of RAA_MONGO_URL the role readWrite")
    if problem.code in _CANNOT_STORE:
        return PermanentError(f"MongoDB cannot store this: {problem}")
    return DependencyUnavailable(f"MongoDB refuses: {problem}")


def _compare_and_set(write: Write) -> ReplaceOne[MongoDocument]:
    """Replace the expected version, or create it; whoever comes second meets the unique `_id` and is named by it."""
    document = write.document
    stored = {name: document[name] for name in _HEADER if name in document}
    # absent rather than null: sparse indexes hold only what has a value
    if document["wake_at"] is not None:
        stored["wake_at"] = document["wake_at"]
    if document["owners"]:
        stored["owners"] = document["owners"]
    if document["marks"]:
        stored["marks"] = document["marks"]
    stored["doc"] = write.encoded
    return ReplaceOne({"_id": document["_id"], "version": write.expected}, stored, upsert=True)


def _too_large(write: Write) -> PermanentError:
    name, size = write.document["_id"], len(write.encoded)
    return PermanentError(f"{write.kind} {name} cannot be stored: {size} bytes, and MongoDB takes {_MOST_BYTES}")


def _verdict(error: dict[str, Any] | None) -> Verdict:
    if error is None:
        return "stored"
    if error["code"] == _DUPLICATE:
        return "lost"
    return _refused(OperationFailure(error["errmsg"], error["code"]))


def _confirmed(write: Write, stored: MongoDocument) -> Verdict:
    if stored.get("write_id") == write.document["write_id"]:
        return "stored"
    if stored.get("version", 0) == write.expected:
        return DependencyUnavailable("MongoDB closed the connection before it wrote; try again")
    return "lost"


def _of_partitions(partitions: Collection[int] | None) -> dict[str, Any]:
    return {} if partitions is None else {"partition": {"$in": [*partitions, None]}}


def _decode(stored: MongoDocument) -> Document:
    document: Document = from_json(stored["doc"])
    return as_tombstone(document, stored["wake_at"]) if stored.get("shrunk") else document
