"""Undecodable batches set aside inside aiokafka's fetcher.

When a batch cannot be decoded (codec missing, checksum wrong, header key not UTF-8), aiokafka raises out of `getmany`
in the middle of a batch of good records: those are lost to this call, and the next call steps over them. Here the
decoder stops in front of the bad batch instead, so that everything before it and beside it is delivered.
"""

import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import cramjam
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaError

from raa_runtime.bus.port import TopicPartition, UndecodableBatch

# what decoding foreign bytes may raise: our own mistakes (TypeError, AttributeError) are not among them
_UNDECODABLE = (
    KafkaError,
    ValueError,
    LookupError,
    OSError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    cramjam.DecompressionError,
)
Note = Callable[[UndecodableBatch], None]


def watch(consumer: AIOKafkaConsumer, note: Note) -> None:
    """Report undecodable batches of this consumer to `note` from now on; call it before it is given partitions."""
    consumer._fetcher._records = _Fetched(note)


def fetcher_died(consumer: AIOKafkaConsumer) -> bool:
    """Say whether the background task that fetches has ended; `getmany` would wait for it for ever."""
    return bool(consumer._fetcher.error_future.done())


class _Fetched(OrderedDict[Any, Any]):
    """The fetched and not yet delivered batches of each partition, as the fetcher stores them."""

    def __init__(self, note: Note) -> None:
        super().__init__()
        self._note = note

    def __setitem__(self, place: Any, fetched: Any) -> None:
        if isinstance(fetched, FetchResult):
            records = fetched._partition_records
            fetched._partition_records = _Decoding(TopicPartition(*place), records, self._note)
        super().__setitem__(place, fetched)


class _Decoding(Iterator[Any]):
    """The records of one fetch of one partition, ending in front of the first batch that cannot be decoded."""

    def __init__(self, place: TopicPartition, inner: Any, note: Note) -> None:
        self._place = place
        self._inner = inner
        self._note = note
        self._batches = _Batches(inner._records)
        inner._records = self._batches

    @property
    def next_fetch_offset(self) -> int:
        return int(self._inner.next_fetch_offset)

    def __next__(self) -> Any:
        try:
            return next(self._inner)
        except _UNDECODABLE as problem:
            offset = self.next_fetch_offset
            behind = max(self._batches.behind, offset + 1)
            self._note(UndecodableBatch(self._place, offset, behind, f"{type(problem).__name__}: {problem}"))
            raise StopIteration from problem


class _Batches:
    """Remember where the batch under way ends; its header is readable even when its records are not."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.behind = 0

    def has_next(self) -> bool:
        return bool(self._inner.has_next())

    def next_batch(self) -> Any:
        batch = self._inner.next_batch()
        self.behind = int(batch.next_offset)
        return batch
