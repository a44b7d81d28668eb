"""What a kcat user is told about a record that is no task."""

from typing import Any

import pytest

from raa_planner.rejections import on_rejected
from raa_runtime.bus.port import Message, Record
from raa_schemas.task import TaskDone
from raa_schemas.tenants import IntakePolicy
from tests.unit.planner.way import NOON

OPEN = IntakePolicy(allow_anonymous=True)


def record(value: bytes | None, topic: str = "task.created", **headers: str) -> Record:
    return Record(topic, 3, 41, NOON, None, value, tuple((name, text.encode()) for name, text in headers.items()))


def rejected(
    value: bytes | None, topic: str = "task.created", policy: IntakePolicy = OPEN, **headers: str
) -> tuple[Message, TaskDone]:
    message = on_rejected(record(value, topic, **headers), "why it cannot be read", deployment="", policy=policy)
    return message, TaskDone.model_validate_json(message.value)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"goal": ', "record_invalid"),
        (None, "record_invalid"),
        (b"[1]", "record_invalid"),
        (b"\xff\xfe", "record_invalid"),
        (b'{"goal": "", "inputs": []}', "goal_missing"),
        (b'{"inputs": []}', "goal_missing"),
        (b'{"goal": "x", "inputs": 3}', "record_invalid"),
        (b"[" * 100_000, "record_invalid"),
    ],
)
def test_a_broken_record_is_answered_with_a_readable_rejection(value: bytes | None, code: str):
    message, done = rejected(value)
    assert message.topic == "task.done"
    assert done.error is not None
    assert (done.outcome, done.error.code, done.error.message) == ("rejected", code, "why it cannot be read")
    assert done.error.hint
    assert done.origin is not None
    assert (done.origin.partition, done.origin.offset) == (3, 41)


def test_the_same_record_is_always_the_same_event():
    assert rejected(b"{")[0] == rejected(b"{")[0]


def test_a_broken_second_submission_never_ends_the_task_it_names():
    _, done = rejected(b'{"task_id": "t1", "goal": "", "correlation_id": "c"}')
    assert done.task_id != "t1"
    assert (done.error and done.error.details, done.correlation_id) == ({"task_id": "t1"}, "c")


@pytest.mark.parametrize(
    ("topic", "header", "policy", "told"),
    [
        ("task.created", None, OPEN, "default"),
        ("task.created", "acme", OPEN, "acme"),
        ("tenants.acme.task.created", "evil", OPEN, "acme"),
        ("task.created", None, IntakePolicy(), None),
        ("task.created", "stranger", IntakePolicy(tenants={"acme"}), None),
    ],
)
def test_only_the_records_own_tenant_is_told(topic: str, header: str | None, policy: IntakePolicy, told: str | None):
    more: dict[str, Any] = {"ce_tenant": header} if header else {}
    message, _ = rejected(b"{", topic, policy, **more)
    headers = {name: raw.decode() for name, raw in message.headers}
    assert headers.get("ce_tenant") == told


def test_a_record_that_contradicts_its_topic_is_told_so():
    _, done = rejected(b'{"goal": "x"}', "tenants.acme.task.created", ce_tenant="evil")
    assert done.error is not None
    assert done.error.code == "tenant_mismatch"
