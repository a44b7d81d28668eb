"""Publishing to Kafka: many messages under way at once, one verdict for each.

aiokafka's idempotent producer numbers the batches of a partition and does not take a number back when the broker
refuses a batch: every later batch of that partition is then out of order, for ever. So after a refusal the producer
is replaced, and what was in the refused batches is sent again one by one, which also tells whose fault it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from raa_runtime.bus.kafka_connection import KafkaTuning, translate, within
from raa_runtime.bus.placement import partition_of
from raa_runtime.bus.port import Message
from raa_runtime.errors import DependencyUnavailable, Misconfigured, PublishRefused, TransientError
from raa_runtime.guard import outcome_of
from raa_schemas.topics import DEAD_LETTER_EXTRA_BYTES, MAX_MESSAGE_BYTES

_STOP_SECONDS = 4.0
_REQUEST_BYTES = MAX_MESSAGE_BYTES + 2 * DEAD_LETTER_EXTRA_BYTES
_BATCH_HEADER_BYTES = 61
_UNKNOWN_TOPIC_SECONDS = 1.0
_TRIES_ALONE = 3
_REFUSED = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.InvalidTopicError,
    kafka_errors.PolicyViolationError,
)
# the broker refused a batch, or one before it: nothing of it was appended
_NOT_APPENDED = (*_REFUSED, kafka_errors.OutOfOrderSequenceNumber)

# hashing a key in Python takes 15 us, and an aggregate publishes several times under the same one
_place = lru_cache(maxsize=16_384)(partition_of)

Verdict = Exception | None
LargestBatch = Callable[[str], Awaitable[int]]
Topics = Callable[[], Awaitable[dict[str, int]]]


class KafkaPublisher:
    """The idempotent producer of this process."""

    def __init__(
        self, options: dict[str, Any], tuning: KafkaTuning, topics: Topics, largest_batch: LargestBatch
    ) -> None:
        self._options = options
        self._tuning = tuning
        self._topics = topics
        self._largest_batch = largest_batch
        self._limits: dict[str, tuple[int, float]] = {}
        self._unknown: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[int]] = {}
        self._renewing = asyncio.Lock()
        self._alone = asyncio.Lock()
        self._farewells: set[asyncio.Task[None]] = set()
        self._connected: AIOKafkaProducer | None = None

    @property
    def _producer(self) -> AIOKafkaProducer:
        if self._connected is None:
            raise DependencyUnavailable("no connection to Kafka yet; nothing was sent")
        return self._connected

    async def start(self) -> None:
        """Connect; raises DependencyUnavailable, and Misconfigured without permission to write."""
        self._connected = await self._open()

    async def _open(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._options,
            enable_idempotence=True,
            acks="all",
            linger_ms=self._tuning.linger * 1000,
            max_batch_size=self._tuning.batch_bytes,
            max_request_size=_REQUEST_BYTES,
            metadata_max_age_ms=int(self._tuning.metadata_age * 1000),
        )
        try:
            await within(self._tuning.call_timeout, producer.start(), "connecting the producer")
        except (DependencyUnavailable, Misconfigured):
            await _stop(producer)
            raise
        return producer

    async def stop(self) -> None:
        """Flush for a moment, then leave: the client alone would wait for ever for a broker that is away."""
        leaving = [] if self._connected is None else [_stop(self._connected)]
        await asyncio.gather(*leaving, *self._farewells)

    async def publish(self, messages: Sequence[Message], patience: float | None = None) -> list[Verdict]:
        """Append all in order, then wait for all together; a message without an answer in time is unknown."""
        verdicts: list[Verdict] = [_unsent()] * len(messages)
        sent: dict[int, asyncio.Future[Any]] = {}
        if self._connected is None:
            return verdicts
        producer = self._connected
        seconds = self._tuning.publish_timeout
        try:
            async with asyncio.timeout(seconds if patience is None else min(patience, seconds)):
                await self._append(producer, messages, verdicts, sent)
                await _settle(sent.values())
        except TimeoutError:
            pass  # what has an answer by now has its verdict below
        finally:
            for future in sent.values():
                future.add_done_callback(_retrieve)
        for index, future in sent.items():
            verdicts[index] = _verdict(future)
        await self._send_again(producer, messages, verdicts)
        return verdicts

    async def _append(
        self,
        producer: AIOKafkaProducer,
        messages: Sequence[Message],
        verdicts: list[Verdict],
        sent: dict[int, "asyncio.Future[Any]"],
    ) -> None:
        for index, message in enumerate(messages):
            try:
                partitions = await self._partitions(producer, message.topic)
                limit = self._limit(message.topic) if self._limits else None
                if not partitions:
                    verdicts[index] = _no_topic(message)
                elif limit is None:
                    sent[index] = await _send(producer, message, partitions)
                elif _size(message) > limit:
                    verdicts[index] = _too_large(message, limit)
                elif limit > self._tuning.batch_bytes:
                    sent[index] = await _send(producer, message, partitions)
                else:  # a full batch of ours would be too large for this topic
                    verdicts[index] = await self._send_alone(message)
            except kafka_errors.MessageSizeTooLargeError:
                verdicts[index] = _too_large(message, _REQUEST_BYTES)
            except TransientError as problem:
                verdicts[index] = problem
                return
            except kafka_errors.KafkaError as problem:
                verdicts[index] = _as_verdict(translate(problem, "publishing"))
                if not problem.retriable:
                    await self._renew(producer)
                    return  # the rest stays unsent, so that the order of a key holds

    def _limit(self, topic: str) -> int | None:
        """Give a topic's limit if a refusal taught it lately; an operator may have raised it since."""
        limit, until = self._limits.get(topic, (0, 0.0))
        return limit if until > asyncio.get_running_loop().time() else None

    async def _partitions(self, producer: AIOKafkaProducer, topic: str) -> int:
        """Count the partitions of a topic, 0 if there is none; a missing one is not named to the broker."""
        known = producer.client.cluster.partitions_for_topic(topic)
        return len(known) if known is not None else await self._found(producer, topic)

    async def _found(self, producer: AIOKafkaProducer, topic: str) -> int:
        """Look for a topic; all who miss the same one at once, as after a start in a backlog, wait for one answer."""
        looking = self._looking.get(topic)
        if looking is None:
            looking = self._looking[topic] = asyncio.create_task(self._look(producer, topic))
            looking.add_done_callback(_retrieve)
            looking.add_done_callback(lambda _: self._looking.pop(topic, None))
        return await asyncio.shield(looking)

    async def _look(self, producer: AIOKafkaProducer, topic: str) -> int:
        return len(await producer.partitions_for(topic) or ()) if await self._exists(topic) else 0

    async def _exists(self, topic: str) -> bool:
        """Look for a topic without naming it to the broker, which might create it."""
        now = asyncio.get_running_loop().time()
        if self._unknown.get(topic, 0) > now:
            return False
        if topic in await self._topics():
            self._unknown.pop(topic, None)
            return True
        self._unknown = {name: until for name, until in self._unknown.items() if until > now}
        self._unknown[topic] = now + _UNKNOWN_TOPIC_SECONDS
        return False

    async def _send_again(
        self, producer: AIOKafkaProducer, messages: Sequence[Message], verdicts: list[Verdict]
    ) -> None:
        again = [index for index, verdict in enumerate(verdicts) if isinstance(verdict, _NOT_APPENDED)]
        if not again:
            return
        try:
            await self._renew(producer)
            for index in again:
                verdicts[index] = await self._send_alone(messages[index])
        except TransientError as problem:
            for index in again:
                if isinstance(verdicts[index], _NOT_APPENDED):
                    verdicts[index] = problem

    async def _send_alone(self, message: Message) -> Verdict:
        """Send one message by itself and wait for it; raises TransientError when Kafka goes away meanwhile."""
        async with self._alone:
            for _ in range(_TRIES_ALONE):
                producer = self._producer
                try:
                    async with asyncio.timeout(self._tuning.publish_timeout):
                        partitions = await self._partitions(producer, message.topic)
                        if not partitions:
                            return _no_topic(message)
                        await (await _send(producer, message, partitions))
                except TimeoutError:
                    return _unconfirmed()
                except kafka_errors.OutOfOrderSequenceNumber:
                    await self._renew(producer)
                except _REFUSED as problem:
                    await self._renew(producer)
                    return await self._final(message, problem)
                except kafka_errors.KafkaError as problem:
                    return _as_verdict(translate(problem, "publishing"))
                else:
                    return None
        return _unsent()

    async def _final(self, message: Message, problem: kafka_errors.KafkaError) -> Verdict:
        if not isinstance(problem, kafka_errors.MessageSizeTooLargeError):
            return PublishRefused(f"Kafka refuses a message for {message.topic!r}: {problem!r}")
        limit = await self._largest_batch(message.topic)
        self._limits[message.topic] = limit, asyncio.get_running_loop().time() + self._tuning.metadata_age
        if _size(message) > limit:
            return _too_large(message, limit)
        return TransientError(f"a batch for {message.topic!r} was larger than its {limit} bytes; next time one by one")

    async def _renew(self, broken: AIOKafkaProducer) -> None:
        """Replace a producer once, however many calls noticed; the old one still gets its other answers."""
        async with self._renewing:
            if self._producer is not broken:
                return
            self._connected = await self._open()
            farewell = asyncio.create_task(_stop(broken), name="kafka-producer-farewell")
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)


async def _send(producer: AIOKafkaProducer, message: Message, partitions: int) -> "asyncio.Future[Any]":
    future: asyncio.Future[Any] = await producer.send(
        message.topic, message.value, message.key, _place(message.key, partitions), headers=list(message.headers)
    )
    return future


async def _settle(futures: Iterable["asyncio.Future[Any]"]) -> None:
    for future in futures:
        try:
            await future
        except kafka_errors.KafkaError:
            continue  # its verdict is read from the future


async def _stop(producer: AIOKafkaProducer) -> None:
    """Say farewell, whatever the client makes of it: with the broker away it fails with KeyError, among others."""
    ended = await outcome_of(lambda: within(_STOP_SECONDS, producer.stop(), "stopping the producer"))
    if isinstance(ended, Exception):
        # the messages that still wait are unknown to their callers already; letting go of them ends the flush
        producer._message_accumulator.fail_all(kafka_errors.ProducerClosed())
        await outcome_of(lambda: within(1.0, _disconnect(producer), "disconnecting the producer"))


async def _disconnect(producer: AIOKafkaProducer) -> None:
    try:
        await producer._sender.close()
    finally:
        await producer.client.close()


def _retrieve(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()


def _verdict(future: "asyncio.Future[Any]") -> Verdict:
    if not future.done() or future.cancelled():
        return _unconfirmed()
    problem = future.exception()
    if problem is None or isinstance(problem, _NOT_APPENDED):
        return problem
    return _as_verdict(translate(problem, "publishing"))


def _as_verdict(problem: BaseException) -> Exception:
    if isinstance(problem, Exception):
        return problem
    raise problem


def _unconfirmed() -> Exception:
    return DependencyUnavailable("Kafka has not confirmed the message in time; it may still be delivered")


def _unsent() -> Exception:
    return DependencyUnavailable("Kafka took no messages in time; this one was not sent")


def _no_topic(message: Message) -> PublishRefused:
    return PublishRefused(f"there is no topic {message.topic!r}; create it with `raa topics apply`")


def _size(message: Message) -> int:
    """Estimate the bytes of a batch that holds only this message, from above by a few."""
    record = DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, message.value, list(message.headers))
    return int(record) + _BATCH_HEADER_BYTES


def _too_large(message: Message, limit: int) -> PublishRefused:
    return PublishRefused(
        f"a message of {_size(message)} bytes is too large for {message.topic!r}, which takes "
        f"{limit}; pass large values by reference"
    )
