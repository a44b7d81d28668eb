"""The embedded log on disk: topics, records and committed offsets in one SQLite file."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from raa_runtime.bus.placement import partition_of
from raa_runtime.bus.port import Headers, Message, Record, TopicPartition, TopicSpec
from raa_runtime.state.sqlite import connect, in_statements

_TABLES = (
    """CREATE TABLE IF NOT EXISTS topics (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, partitions INT NOT NULL,
       retention_seconds REAL NOT NULL, compacted INT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS records (topic INT, part INT, off INT, ts REAL NOT NULL, key BLOB, headers BLOB,
       value BLOB, PRIMARY KEY (topic, part, off)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS ends (topic INT, part INT, next INT NOT NULL,
       PRIMARY KEY (topic, part)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS offsets (grp TEXT, topic INT, part INT, next INT NOT NULL,
       PRIMARY KEY (grp, topic, part)) WITHOUT ROWID""",
)


_READ_BYTES = 4 * 1024 * 1024


class Log:
    """Append, read, commit. Writes belong to one thread, reads to another; sqlite3.Error passes through."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = connect(path)
        for table in _TABLES:
            self._writer.execute(table)
        self._reader = connect(path)
        self._ids: dict[str, int] = {}
        self.partitions: dict[str, int] = {}
        self._load()
        self.prune()

    def _load(self) -> None:
        """Read what is small into memory. Others read it meanwhile: each part appears as a whole, topics last."""
        rows = self._writer.execute("SELECT id, name, partitions FROM topics").fetchall()
        names = {number: name for number, name, _ in rows}
        found = {TopicPartition(name, part): 0 for _, name, partitions in rows for part in range(partitions)}
        ends = self._writer.execute("SELECT topic, part, next FROM ends").fetchall()
        found |= {TopicPartition(names[topic], part): end for topic, part, end in ends}
        offsets: dict[str, dict[TopicPartition, int]] = {}
        stored = "SELECT grp, topic, part, next FROM offsets WHERE grp <> ''"  # an earlier ping may have died half way
        for group, topic, part, following in self._writer.execute(stored):
            offsets.setdefault(group, {})[TopicPartition(names[topic], part)] = following
        self._ids = {name: number for number, name in names.items()}
        self.ends, self.offsets = found, offsets
        self.partitions = {name: partitions for _, name, partitions in rows}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        finally:
            if self._writer.in_transaction:  # it failed, whatever it was; the next one needs a clean connection
                self._writer.execute("ROLLBACK")

    def prune(self) -> None:
        """Drop what is past its retention, and older values of a key on compacted topics."""
        now = time.time()
        topics = self._writer.execute("SELECT id, partitions, retention_seconds, compacted FROM topics").fetchall()
        for number, partitions, retention, compacted in topics:
            if compacted:
                self._compact(number)
                continue
            for part in range(partitions):
                self._drop_older(number, part, now - retention)

    def _compact(self, topic: int) -> None:
        newest: dict[tuple[int, bytes], int] = {}
        superseded: list[tuple[int, int, int]] = []
        for part, off, key in self._writer.execute(
            "SELECT part, off, key FROM records WHERE topic = ? AND key <> x'' ORDER BY part, off", (topic,)
        ):
            if (former := newest.get((part, key))) is not None:
                superseded.append((topic, part, former))
            newest[part, key] = off
        with self._transaction():
            self._writer.executemany("DELETE FROM records WHERE topic = ? AND part = ? AND off = ?", superseded)

    def _drop_older(self, topic: int, part: int, limit: float) -> None:
        # times ascend with offsets, so this looks at what it drops and at one record more
        first = self._writer.execute(
            "SELECT off FROM records WHERE topic = ? AND part = ? AND ts >= ? ORDER BY off LIMIT 1",
            (topic, part, limit),
        ).fetchone()
        kept = first[0] if first else 2**62
        self._writer.execute("DELETE FROM records WHERE topic = ? AND part = ? AND off < ?", (topic, part, kept))

    def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the topics that are missing, all in one transaction."""
        missing = [spec for spec in specs if spec.name not in self._ids]
        if not missing:
            return []
        with self._transaction():
            self._writer.executemany(
                "INSERT INTO topics (name, partitions, retention_seconds, compacted) VALUES (?, ?, ?, ?)",
                [(spec.name, spec.partitions, spec.retention.total_seconds(), spec.compacted) for spec in missing],
            )
        self._load()
        return [spec.name for spec in missing]

    def grow(self, partitions: Mapping[str, int]) -> None:
        """Give topics more partitions, all in one transaction; nobody may read or write meanwhile, for keys move."""
        with self._transaction():
            self._writer.executemany(
                "UPDATE topics SET partitions = ? WHERE name = ? AND partitions < ?",
                [(count, name, count) for name, count in partitions.items()],
            )
        self._load()

    def write(self, messages: Sequence[Message], commits: Mapping[str, Mapping[TopicPartition, int]]) -> list[Record]:
        """Append records and store offsets in one durable transaction; returns the records with their places."""
        now = datetime.now(UTC)
        ends: dict[TopicPartition, int] = {}
        records = [self._place(message, ends, now) for message in messages]
        with self._transaction():
            self._insert(records, ends, commits)
        self.ends |= ends
        for group, offsets in commits.items():
            self.offsets.setdefault(group, {}).update(offsets)
        return records

    def _place(self, message: Message, ends: dict[TopicPartition, int], now: datetime) -> Record:
        place = TopicPartition(message.topic, partition_of(message.key, self.partitions[message.topic]))
        offset = ends.get(place, self.ends[place])
        ends[place] = offset + 1
        return Record(message.topic, place.partition, offset, now, message.key, message.value, message.headers)

    def _insert(
        self,
        records: Sequence[Record],
        ends: Mapping[TopicPartition, int],
        commits: Mapping[str, Mapping[TopicPartition, int]],
    ) -> None:
        for start, end in in_statements([len(record.value or b"") for record in records]):
            rows = [self._row(record) for record in records[start:end]]
            holes = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(rows))
            insert = f"INSERT INTO records VALUES {holes}"  # noqa: S608  # only question marks
            self._writer.execute(insert, [value for row in rows for value in row])
        self._writer.executemany(
            "INSERT OR REPLACE INTO ends VALUES (?, ?, ?)",
            [(self._ids[topic], part, end) for (topic, part), end in ends.items()],
        )
        self._writer.executemany(
            "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)",
            [
                (group, self._ids[topic], part, following)
                for group, offsets in commits.items()
                for (topic, part), following in offsets.items()
            ],
        )

    def _row(self, record: Record) -> tuple[Any, ...]:
        number, at = self._ids[record.topic], record.timestamp.timestamp()
        return number, record.partition, record.offset, at, record.key, _pack(record.headers), record.value

    def read(self, place: TopicPartition, offset: int, limit: int) -> list[Record]:
        """Read from an offset on, at most `limit` records and about 4 MB."""
        cursor = self._reader.execute(
            "SELECT off, ts, key, headers, value FROM records WHERE topic = ? AND part = ? AND off >= ? "
            "ORDER BY off LIMIT ?",
            (self._ids[place.topic], place.partition, offset, limit),
        )
        records: list[Record] = []
        size = 0
        for off, ts, key, headers, value in cursor:
            records.append(
                Record(place.topic, place.partition, off, datetime.fromtimestamp(ts, UTC), key, value, _unpack(headers))
            )
            size += len(value or b"") + len(headers)
            if size > _READ_BYTES:
                break
        cursor.close()
        return records

    def ping(self) -> None:
        """Write something, so that a full disk shows; all or nothing, as a crash in between would leave it behind."""
        with self._transaction():
            self._writer.execute("INSERT OR REPLACE INTO offsets VALUES ('', 0, 0, ?)", (int(time.time()),))
            self._writer.execute("DELETE FROM offsets WHERE grp = ''")

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
        self._reader.close()


def _pack(headers: Headers) -> bytes:
    return to_json([(name, None if value is None else value.decode("latin-1")) for name, value in headers])


def _unpack(packed: bytes) -> Headers:
    return tuple((name, None if value is None else value.encode("latin-1")) for name, value in from_json(packed))
