"""An observer's view of an embedded bus that another process owns."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from raa_runtime.bus.port import Headers, Message, Rebalance, Record, Subscription, TopicPartition, TopicSpec
from raa_runtime.bus.socket_server import LINE_LIMIT, message_to, socket_path
from raa_runtime.errors import DependencyUnavailable, Misconfigured, PublishRefused, TransientError


class SocketBus:
    """A `Bus` that can publish and observe, but joins no groups: those live inside the owner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = socket_path(folder)

    async def start(self) -> None:
        """Check that somebody answers."""
        await self.ping()

    async def stop(self) -> None:
        """Nothing is held between calls."""

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self._path, limit=LINE_LIMIT)
        except OSError:
            raise DependencyUnavailable(
                f"no stack runs on {self._folder}; start one with `raa up --data {self._folder}`"
            ) from None

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await self._connect()
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            return _answer(await reader.readline())
        except ConnectionError:
            raise DependencyUnavailable("the stack stopped while it was asked; start it again with `raa up`") from None
        finally:
            writer.close()

    async def publish(self, messages: Sequence[Message], *, patience: float | None = None) -> list[Exception | None]:
        """Publish through the owner, as many at once as fit into a line; after a failure nothing more is sent."""
        verdicts: list[Exception | None] = []
        try:
            async with asyncio.timeout(patience):
                for few in _in_lines(messages):
                    answer = await self._ask({"op": "publish", "messages": [message_to(message) for message in few]})
                    verdicts += [_verdict(item) for item in answer["verdicts"]]
        except TimeoutError:
            late = DependencyUnavailable("the owner of the log has not answered in time")
            verdicts += [late] * (len(messages) - len(verdicts))
        return verdicts

    async def read(self, topics: Sequence[str], *, from_beginning: bool, follow: bool) -> AsyncIterator[Record]:
        """Observe through the owner."""
        reader, writer = await self._connect()
        request = {"op": "read", "topics": list(topics), "from_beginning": from_beginning, "follow": follow}
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            while "record" in (answer := _answer(await reader.readline())):
                yield _record(answer["record"])
        finally:
            writer.close()

    async def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give the next offset of each partition."""
        return _offsets(await self._ask({"op": "end_offsets", "topics": list(topics)}))

    async def committed(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give a group's offsets."""
        return _offsets(await self._ask({"op": "committed", "group": group, "topics": list(topics)}))

    async def topics(self) -> dict[str, int]:
        """Give the topics there are."""
        topics: dict[str, int] = (await self._ask({"op": "topics"}))["topics"]
        return topics

    async def times(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, datetime]:
        """Give the time of the first record at or behind each offset."""
        asked = [[place.topic, place.partition, offset] for place, offset in offsets.items()]
        rows = (await self._ask({"op": "times", "offsets": asked}))["times"]
        return {TopicPartition(topic, part): datetime.fromisoformat(at) for topic, part, at in rows}

    async def groups(self) -> dict[str, int]:
        """Name the groups, with their members."""
        groups: dict[str, int] = (await self._ask({"op": "groups"}))["groups"]
        return groups

    async def grow(self, partitions: Mapping[str, int]) -> None:
        """Refuse: keys must not move below a stack that runs."""
        raise Misconfigured(f"a stack runs on {self._folder}; stop it before its topics grow")

    async def info(self) -> dict[str, Any]:
        """Ask the owner about itself: pid, services and their URLs."""
        info: dict[str, Any] = (await self._ask({"op": "info"}))["info"]
        return info

    async def ping(self) -> None:
        """Raise DependencyUnavailable when no owner answers."""
        await self._ask({"op": "topics"})

    async def subscribe(self, group: str, topics: Sequence[str], rebalance: Rebalance) -> Subscription:
        """Refuse: groups live inside the owner."""
        raise Misconfigured(f"{group}: groups of an embedded bus live inside `raa up`; use Kafka to run services apart")

    async def apply_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Say which topics are missing; the owner creates its own."""
        there = await self.topics()
        return [spec.name for spec in specs if spec.name not in there]


def _answer(line: bytes) -> dict[str, Any]:
    if not line:
        raise DependencyUnavailable("the stack stopped while it was asked; start it again with `raa up`")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise TransientError(f"{answer['class']}: {answer['error']}")
    return answer


def _in_lines(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Split messages into what one request holds, with room for base64 and names."""
    start, size = 0, 0
    for number, message in enumerate(messages):
        own = len(message.key) + len(message.value) + sum(len(name) + len(raw) + 40 for name, raw in message.headers)
        if number > start and size + own > LINE_LIMIT // 3:
            yield messages[start:number]
            start, size = number, 0
        size += own
    if start < len(messages):
        yield messages[start:]


def _verdict(item: Mapping[str, Any] | None) -> Exception | None:
    if item is None:
        return None
    return PublishRefused(item["reason"]) if item["refused"] else TransientError(item["reason"])


def _offsets(answer: Mapping[str, Any]) -> dict[TopicPartition, int]:
    rows: Collection[tuple[str, int, int]] = answer["offsets"]
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _record(item: Sequence[Any]) -> Record:
    topic, partition, offset, timestamp, key, value, packed = item
    headers: Headers = tuple((name, _bytes(raw)) for name, raw in packed)
    return Record(topic, partition, offset, datetime.fromisoformat(timestamp), _bytes(key), _bytes(value), headers)
