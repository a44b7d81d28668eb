"""Somebody who knows Kafka and nothing of us: kcat, librdkafka and a plain consumer, with two planners running."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.backends.process import BackendMissing, program
from tests.e2e.house import House

CREATED, DONE, LETTERS = "task.created", "task.done", "planner.dlq"
PATIENCE_SECONDS = 30.0


class Topic:
    """A plain consumer of one topic from now on, which remembers all it was given."""

    def __init__(self, house: House, name: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": house.settings.kafka_bootstrap, "group.id": "somebody"})
        topic = f"{house.settings.deployment}.{name}"
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, partition) for partition in partitions]
        ends = [self._consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        starts = [TopicPartition(topic, place.partition, end) for place, end in zip(places, ends, strict=True)]
        self._consumer.assign(starts)
        self.read: list[Message] = []

    def wait(self, wanted: Callable[[Message], bool]) -> Message:
        """Give the first record that fits; raises AssertionError when none comes."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := [message for message in self.read if wanted(message)]):
            assert time.monotonic() < end, f"not among {[body(message) for message in self.read]}"
            self._take(0.1)
        return found[0]

    def rest(self) -> list[Message]:
        """Give all there is by now."""
        while self._take(1.0):
            pass
        return self.read

    def _take(self, seconds: float) -> bool:
        message = self._consumer.poll(seconds)
        if message is not None and message.error() is None:
            self.read.append(message)
        return message is not None

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def done(separate: House) -> Iterator[Topic]:
    topic = Topic(separate, DONE)
    yield topic
    topic.close()


@pytest.fixture
def letters(separate: House) -> Iterator[Topic]:
    topic = Topic(separate, LETTERS)
    yield topic
    topic.close()


def body(message: Message) -> Any:
    return json.loads(message.value() or b"null")


def headers(message: Message) -> dict[str, str]:
    given: Any = message.headers() or []  # the client's types admit more than it gives
    return {name: (raw or b"").decode(errors="replace") for name, raw in given}


def kcat(house: House, *arguments: str, lines: bytes) -> None:
    try:
        command = program("kcat", "kcat")
    except BackendMissing as missing:
        pytest.skip(f"kcat: {missing}")
    topic = f"{house.settings.deployment}.{CREATED}"
    subprocess.run(
        [command, "-b", house.settings.kafka_bootstrap, "-P", "-t", topic, *arguments],
        input=lines,
        check=True,
        timeout=30,
    )


def produce(house: House, *records: dict[str, Any]) -> None:
    """Send through librdkafka, whose default partitioner places keys by CRC32."""
    producer = Producer({"bootstrap.servers": house.settings.kafka_bootstrap, "message.max.bytes": 2_000_000})
    for record in records:
        producer.produce(f"{house.settings.deployment}.{CREATED}", **record)
    assert producer.flush(30) == 0


def of_goal(text: str) -> bytes:
    return json.dumps({"goal": text}).encode()


def of_origin(topic: str, place: TopicPartition) -> Callable[[Message], bool]:
    return lambda message: bool((origin := body(message)["origin"]) and origin["partition"] == place.partition)


def test_a_keyless_line_from_kcat_ends_in_one_task_done(separate: House, done: Topic) -> None:
    tag = uuid4().hex
    line = {"goal": "what is 17 * (3 + 4)", "correlation_id": tag, "labels": {"team": "blue"}}
    kcat(separate, lines=json.dumps(line).encode() + b"\n")
    first = done.wait(lambda message: body(message)["correlation_id"] == tag)
    ended = body(first)
    assert (ended["outcome"], ended["result"], ended["labels"]) == ("succeeded", 119, {"team": "blue"})
    assert ended["origin"]["topic"] == f"{separate.settings.deployment}.{CREATED}"
    assert headers(first)["ce_subject"] == ended["task_id"]
    assert headers(first)["ce_tenant"] == "default"
    ids = {headers(message)["ce_id"] for message in done.rest() if body(message)["correlation_id"] == tag}
    assert len(ids) == 1


def test_keys_placed_by_crc32_reach_one_planner_each_and_end_once(separate: House, done: Topic) -> None:
    run = uuid4().hex[:8]
    names = [f"crc-{run}-{number}" for number in range(12)]
    produce(
        separate,
        *(
            {"key": f"default/{name}", "value": json.dumps({"goal": "what is 6 * 7", "task_id": name})}
            for name in names
        ),
    )
    for name in names:
        assert body(done.wait(lambda message, name=name: body(message)["task_id"] == name))["result"] == 42  # type: ignore[misc]
    ends = [
        (body(message)["task_id"], headers(message)["ce_id"])
        for message in done.rest()
        if body(message)["task_id"] in names
    ]
    assert len(set(ends)) == len(names)


def test_a_task_submitted_twice_through_two_partitions_ends_once(separate: House, done: Topic) -> None:
    name = f"twice-{uuid4().hex[:8]}"
    line = json.dumps({"goal": "what is 6 * 7", "task_id": name})
    produce(separate, *({"value": line, "partition": partition} for partition in range(6)))
    done.wait(lambda message: body(message)["task_id"] == name)
    assert len({headers(message)["ce_id"] for message in done.rest() if body(message)["task_id"] == name}) == 1


def test_a_broken_line_is_one_dead_letter_one_rejection_and_blocks_nothing(
    separate: House, done: Topic, letters: Topic
) -> None:
    tag = uuid4().hex
    good = json.dumps({"goal": "what is 1 + 1", "correlation_id": tag}).encode()
    kcat(separate, "-p", "3", lines=b'{"goal": "' + tag.encode() + b"\n" + good + b"\n")
    assert body(done.wait(lambda message: body(message)["correlation_id"] == tag))["result"] == 2
    letter = letters.wait(lambda message: tag.encode() in (message.value() or b""))
    told = headers(letter)
    assert "the body is not JSON" in told["dl_message"]
    assert (told["dl_topic"], told["dl_partition"]) == (f"{separate.settings.deployment}.{CREATED}", "3")
    rejected = body(
        done.wait(
            lambda message: (
                body(message)["outcome"] == "rejected" and str(body(message)["origin"]["offset"]) == told["dl_offset"]
            )
        )
    )
    assert rejected["error"]["code"] == "record_invalid"
    assert "the body is not JSON" in rejected["error"]["message"]
    assert len([message for message in letters.rest() if tag.encode() in (message.value() or b"")]) == 1
    other = Topic(separate, "reflector.dlq")
    assert other.rest() == []
    other.close()


def test_a_structured_cloud_event_and_a_tenant_header_are_understood(separate: House, done: Topic) -> None:
    name, tenant = f"wrapped-{uuid4().hex[:8]}", f"t{uuid4().hex[:8]}"
    wrapped = {
        "specversion": "1.0",
        "id": name,
        "source": "elsewhere",
        "type": CREATED,
        "subject": name,
        "tenant": tenant,
        "data": {"goal": "what is 2 * 3", "labels": {"a": "b"}},
    }
    named = f"named-{uuid4().hex[:8]}"
    produce(
        separate,
        {"value": json.dumps(wrapped), "headers": {"content-type": "application/cloudevents+json"}},
        {"value": json.dumps({"goal": "what is 2 * 4", "task_id": named}), "headers": {"ce_tenant": tenant}},
    )
    first = done.wait(lambda message: body(message)["task_id"] == name)
    assert (body(first)["result"], body(first)["labels"], headers(first)["ce_tenant"]) == (6, {"a": "b"}, tenant)
    second = done.wait(lambda message: body(message)["task_id"] == named)
    assert (body(second)["result"], headers(second)["ce_tenant"]) == (8, tenant)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"value": of_goal("x" * 1_048_600)}, "more than 1 MB"),
        ({"value": of_goal("what is 1 + 1"), "headers": {"note": b"\xff\xfe"}}, "is not UTF-8"),
        (
            {
                "value": of_goal("what is 1 + 1"),
                "headers": {"ce_id": "1", "ce_type": CREATED, "ce_dataschema": "task.created.v9.json"},
            },
            "new major version",
        ),
        ({"value": b"{}"}, "goal"),
        ({"value": None}, "the record has no value"),
    ],
)
def test_a_record_that_cannot_be_read_is_a_dead_letter_that_says_what_to_change(
    separate: House, done: Topic, letters: Topic, record: dict[str, Any], why: str
) -> None:
    produce(separate, record | {"partition": 5})
    letter = letters.wait(lambda message: headers(message)["dl_partition"] == "5")
    assert why in headers(letter)["dl_message"]
    assert (letter.value() or None) == record["value"]
    rejected = done.wait(
        lambda message: (
            body(message)["origin"]["offset"] == int(headers(letter)["dl_offset"])
            and body(message)["outcome"] == "rejected"
        )
    )
    assert why in body(rejected)["error"]["message"]
    assert len(letters.rest()) == 1
    assert separate.alive()
