"""What concerns the cluster rather than one reader or writer: topics, committed offsets, limits, liveness."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from raa_runtime.bus.kafka_connection import KafkaTuning, within
from raa_runtime.bus.port import TopicPartition, TopicSpec
from raa_runtime.errors import DependencyUnavailable, Misconfigured, TransientError

_PING_SECONDS = 1.9
_RETRY_SECONDS = 0.1
_LIMIT = "max.message.bytes"
_IN_SYNC = "min.insync.replicas"
# with so many replicas a confirmed message survives the loss of one, and one may be away
_REPLICAS_FOR_QUORUM = 3
_LEAST_IN_SYNC = 2


class KafkaAdmin:
    """One administrative connection, opened at start."""

    def __init__(self, options: dict[str, Any], tuning: KafkaTuning) -> None:
        self._options = options
        self._seconds = tuning.call_timeout
        self._connected: AIOKafkaAdminClient | None = None

    @property
    def _client(self) -> AIOKafkaAdminClient:
        if self._connected is None:
            servers = ", ".join(self._options["bootstrap_servers"])
            raise DependencyUnavailable(f"no connection to Kafka at {servers} yet; start it or set RAA_KAFKA_BOOTSTRAP")
        return self._connected

    async def start(self) -> None:
        """Connect; raises DependencyUnavailable, and may then be called again."""
        client = AIOKafkaAdminClient(**self._options, request_timeout_ms=int(self._seconds * 1000))
        try:
            await within(self._seconds, client.start(), "connecting")
        except BaseException:
            await self._close(client)
            raise
        self._connected = client

    async def stop(self) -> None:
        """Disconnect."""
        client, self._connected = self._connected, None
        if client is not None:
            await self._close(client)

    async def _close(self, client: AIOKafkaAdminClient) -> None:
        try:
            await within(self._seconds, client.close(), "disconnecting")
        except TransientError:
            return

    async def ping(self) -> None:
        """Ask one broker for the list of brokers."""
        await within(_PING_SECONDS, self._client.describe_topics([]), "ping")

    async def topics(self) -> dict[str, int]:
        """Ask for all topics at once: naming one that is missing could create it."""
        found = await within(self._seconds, self._client.describe_topics(), "listing topics")
        return {
            entry["topic"]: len(entry["partitions"])
            for entry in found
            if not entry["error_code"] and not entry["is_internal"]
        }

    async def apply(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the missing ones and wait until they are known; returns their names."""
        present = await self.topics()
        missing = [spec for spec in specs if spec.name not in present]
        if not missing:
            return []
        answer = await within(
            self._seconds, self._client.create_topics([_new_topic(spec) for spec in missing]), "creating topics"
        )
        created = [name for name, code, message in answer.topic_errors if _was_created(name, code, message)]
        await self._until_known({spec.name for spec in missing})
        return created

    async def _until_known(self, names: set[str]) -> None:
        deadline = asyncio.get_running_loop().time() + self._seconds
        while not names <= (await self.topics()).keys():
            if asyncio.get_running_loop().time() > deadline:
                raise DependencyUnavailable(f"{sorted(names)} were created, but the broker does not list them yet")
            await asyncio.sleep(_RETRY_SECONDS)

    async def committed(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give a group's committed offsets; the first question to a new cluster may take a moment."""
        wanted = set(topics)
        found = await within(self._seconds, self._committed(group), f"reading the offsets of {group}")
        return {
            TopicPartition(*place): entry.offset
            for place, entry in found.items()
            if place.topic in wanted and entry.offset >= 0
        }

    async def _committed(self, group: str) -> dict[Any, Any]:
        while True:
            try:
                found: dict[Any, Any] = await self._client.list_consumer_group_offsets(group)
            except kafka_errors.KafkaError as problem:
                if not problem.retriable:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return found

    async def weaknesses(self, topics: Collection[str]) -> list[str]:
        """Compare replicas and `min.insync.replicas` of topics with the number of brokers; we send with acks=all."""
        cluster = await within(self._seconds, self._client.describe_cluster(), "counting brokers")
        brokers = len(cluster["brokers"])
        if brokers < _REPLICAS_FOR_QUORUM:
            return [f"Kafka has {brokers} of the {_REPLICAS_FOR_QUORUM} brokers that survive the loss of one's disk"]
        found = await within(self._seconds, self._client.describe_topics(), "listing topics")
        replicas = {
            entry["topic"]: min((len(partition["replicas"]) for partition in entry["partitions"]), default=0)
            for entry in found
            if entry["topic"] in topics
        }
        least = await self._least_in_sync(list(replicas))
        few = sorted(name for name, count in replicas.items() if count < _REPLICAS_FOR_QUORUM)
        weak = sorted(name for name in replicas if name not in few and least.get(name, 1) < _LEAST_IN_SYNC)
        told = []
        if few:
            told.append(f"{len(few)} topics have fewer than 3 replicas ({few[0]}, …); set RAA_KAFKA_REPLICATION=3")
        if weak:
            told.append(f"{len(weak)} topics confirm with one replica ({weak[0]}, …); set min.insync.replicas=2")
        return told

    async def _least_in_sync(self, topics: Sequence[str]) -> dict[str, int]:
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, {_IN_SYNC: ""}) for topic in topics]
        answers = await within(self._seconds, self._client.describe_configs(asked), f"reading {_IN_SYNC}")
        return {
            name: int(entry[1])
            for answer in answers
            for _code, _message, _type, name, entries in answer.resources
            for entry in entries
            if entry[0] == _IN_SYNC
        }

    async def largest_batch(self, topic: str) -> int:
        """Give the topic's `max.message.bytes`, which limits a batch and thus also each message."""
        question = ConfigResource(ConfigResourceType.TOPIC, topic, {_LIMIT: ""})
        answers = await within(self._seconds, self._client.describe_configs([question]), f"reading {_LIMIT} of {topic}")
        for answer in answers:
            for _code, _message, _type, _name, entries in answer.resources:
                for entry in entries:
                    if entry[0] == _LIMIT:
                        return int(entry[1])
        raise DependencyUnavailable(f"Kafka does not tell {_LIMIT} of {topic}")


def _new_topic(spec: TopicSpec) -> NewTopic:
    configs = {
        "cleanup.policy": "compact" if spec.compacted else "delete",
        "retention.ms": str(int(spec.retention.total_seconds() * 1000)),
        _LIMIT: str(spec.max_message_bytes),
    }
    if spec.replication >= _REPLICAS_FOR_QUORUM:
        configs[_IN_SYNC] = str(_LEAST_IN_SYNC)
    return NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=configs)


def _was_created(name: str, code: int, message: str | None) -> bool:
    if code == kafka_errors.TopicAlreadyExistsError.errno:
        return False  # somebody else was faster
    if code:
        problem = kafka_errors.for_code(code)
        if problem in {
            kafka_errors.TopicAuthorizationFailedError,
            kafka_errors.ClusterAuthorizationFailedError,
            kafka_errors.InvalidReplicationFactorError,
            kafka_errors.InvalidTopicError,
            kafka_errors.InvalidConfigurationError,
            kafka_errors.PolicyViolationError,
        }:
            raise Misconfigured(f"topic {name} cannot be created: {message or problem.__name__}")
        raise DependencyUnavailable(f"topic {name} was not created: {message or problem.__name__}")
    return True
