"""Answers an intake record that cannot be read as a task, so that whoever wrote it is told why."""

import json
from typing import Any

from raa_runtime.bus.port import Record
from raa_schemas.errors import error
from raa_schemas.ids import derived_task_id, origin_key
from raa_schemas.task import Origin, TaskDone


def on_rejected(record: Record, message: str, *, deployment: str = "") -> TaskDone:
    """Make the task.done of a record that is no task.

    Its id is always derived from where the record lies, never taken from its body: a broken second submission must not
    end the task whose id it names. What the body does say comes back in `details` and `correlation_id`.
    """
    body = _read(record.value)
    goal = body.get("goal")
    code = "goal_missing" if body and not (isinstance(goal, str) and goal.strip()) else "record_invalid"
    named = body.get("task_id")
    details = {"task_id": named[:200]} if isinstance(named, str) else {}
    correlation = body.get("correlation_id")
    place = origin_key(deployment, record.topic, record.partition, record.offset, record.timestamp)
    return TaskDone(
        task_id=derived_task_id(place),
        correlation_id=correlation if isinstance(correlation, str) and len(correlation) <= 256 else None,
        outcome="rejected",
        error=error(code, message[:2_000], **details),
        origin=Origin(topic=record.topic, partition=record.partition, offset=record.offset),
    )


def _read(value: bytes | None) -> dict[str, Any]:
    try:
        body = json.loads(value or b"null")
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
