"""Gathers the evidence of a run: every topic of the deployment, and what its stores hold at the end."""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from raa_client.connect import connect
from raa_runtime.bus.port import Record
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned
from raa_schemas.topics import SERVICES
from tests.faults.evidence import Seen

# not about a task, so nothing wakes them
STANDING: Final = frozenset({"episode", "switch", "keyring", "processes", "pings"})
_OVERDUE_SECONDS: Final = 60.0
_AT_ONCE: Final = 500  # or a store after half an hour answers with more than its protocol allows


async def records_of(settings: ServiceSettings) -> list[Seen]:
    """Read all topics of a running deployment, the dead letters too."""
    prefix = owned(settings.deployment, "")
    async with connect(settings) as client:
        names = sorted(name for name in await client.bus.topics() if name.startswith(prefix) and "__" not in name)
        return [seen(record) async for record in client.bus.read(names, from_beginning=True, follow=False)]


def seen(record: Record) -> Seen:
    """Write a record down for the judge."""
    headers = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
    return Seen(record.topic, record.partition, record.offset, record.timestamp.timestamp(), headers, record.value)


def aggregates(settings: ServiceSettings, folders: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every stored aggregate with the name of its collection, from SQLite files or MongoDB, by reading them."""
    if settings.store == "mongo":
        yield from _in_mongo(settings)
        return
    for folder in folders:
        for service in SERVICES:
            path = folder / f"{service}.sqlite"
            if path.exists():
                yield from _in_sqlite(path, service)


def _in_sqlite(path: Path, service: str) -> Iterator[tuple[str, dict[str, Any]]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(set(tables) - STANDING):
            for shrunk, wake_at, document in connection.execute(f'SELECT shrunk, wake_at, doc FROM "{table}"'):
                yield f"{service}.{table}", json.loads(document) | (_shrunk(wake_at) if shrunk else {})
    finally:
        connection.close()


def _in_mongo(settings: ServiceSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongo_url.get_secret_value())
    try:
        for service in SERVICES:
            database = client[owned(settings.deployment, service).replace(".", "_")]
            for name in sorted(set(database.list_collection_names()) - STANDING):
                for document in database[name].find(batch_size=_AT_ONCE):
                    shrunk = _shrunk(document["wake_at"]) if document.get("shrunk") else {}
                    yield f"{service}.{name}", json.loads(document["doc"]) | shrunk
    finally:
        client.close()


def _shrunk(wake_at: float) -> dict[str, Any]:
    """Say what a store says of an aggregate that was shrunk in place, whatever its document says."""
    return {"tombstone": True, "outbox": [], "wake_at": wake_at}


def unwatched(settings: ServiceSettings, folders: list[Path]) -> list[str]:
    """Name the aggregates of tasks that nothing would ever wake, though they are not known to be over.

    An aggregate of a task has no `wake_at` only when it is terminal and its outbox is known to be published; and what
    is long due was not forgotten by those who wake.
    """
    found, now = [], time.time()
    for kind, stored in aggregates(settings, folders):
        wake_at, over = stored["wake_at"], stored["tombstone"] and not stored["outbox"]
        if wake_at is None and not over:
            found.append(f"{kind} {stored['_id']} would never wake: {_summary(stored)}")
        elif wake_at is not None and wake_at < now - _OVERDUE_SECONDS:
            found.append(f"{kind} {stored['_id']} is {now - wake_at:.0f} s overdue: {_summary(stored)}")
    return found


def _summary(stored: dict[str, Any]) -> str:
    facts = {name: stored[name] for name in ("closed", "tombstone", "quarantined", "wake_tries")}
    return ", ".join(f"{name} {fact}" for name, fact in facts.items()) + f", {len(stored['outbox'])} in the outbox"
