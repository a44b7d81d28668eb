"""Admission: whether a task can be taken up at all, decided without I/O, so that intake costs milliseconds."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from raa_planner.domain.task import Task
from raa_schemas.artifact import Input
from raa_schemas.check import CheckSyntaxError, parse_check
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.task import Origin, TaskCreated

TRIES_PER_ATTEMPT: Final = 4
MAX_INLINE_BYTES: Final = 400_000
BLOB_URI: Final = re.compile(r"blob:sha256/([0-9a-f]{64})")
REJECTIONS: Final = frozenset({
    "goal_missing", "check_invalid", "input_missing", "input_outside_roots", "input_invalid", "claim_gone",
    "reply_to_not_allowed", "tenant_mismatch", "record_invalid",
})  # fmt: skip
"""Codes that mean: this task was never taken up."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What this deployment admits: topics for replies, and whether it reads `file:` inputs at all."""

    reply_topics: Collection[str] = field(default_factory=frozenset)
    reads_files: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a task reached us. `at` is the record's time."""

    task_id: str
    at: datetime
    origin: Origin | None = None
    traceparent: str | None = None


def admit(task: Task, request: TaskCreated, arrival: Arrival, now: datetime) -> datetime:
    """Write down what is asked and the bounds that make every loop of the task end; gives the deadline.

    The deadline counts from the record's time, so that a backlog does not lengthen it; a record from the future
    counts from now, so that a wrong clock does not either.
    """
    received_at = min(arrival.at, now)
    task.request = request.model_copy(update={"task_id": arrival.task_id})
    task.origin = arrival.origin
    task.trace_id = trace_id(arrival.traceparent)
    task.received_at = received_at
    task.admitted_at = now
    task.deadline = received_at + timedelta(seconds=request.constraints.deadline_seconds)
    task.tries_left = TRIES_PER_ATTEMPT * request.constraints.max_attempts
    return task.deadline


def refusal(request: TaskCreated, rules: Rules) -> ErrorInfo | None:
    """Give the first reason not to take the task up."""
    return (
        _unparsable_check(request)
        or _forbidden_reply(request, rules)
        or _unusable_input(request, rules)
        or _unusable_plan(request)
    )


def trace_id(traceparent: str | None) -> str | None:
    """Read the W3C trace id out of a traceparent header."""
    found = re.fullmatch(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*", traceparent or "")
    return found[1] if found else None


def _unparsable_check(request: TaskCreated) -> ErrorInfo | None:
    if request.success_check is None:
        return None
    try:
        parse_check(request.success_check)
    except CheckSyntaxError as problem:
        return error("check_invalid", f"the success check {request.success_check!r} does not parse: {problem}")
    return None


def _forbidden_reply(request: TaskCreated, rules: Rules) -> ErrorInfo | None:
    if request.reply_to is None or request.reply_to in rules.reply_topics:
        return None
    return error("reply_to_not_allowed", f"the reply topic {request.reply_to!r} is not on this deployment's list")


def _unusable_input(request: TaskCreated, rules: Rules) -> ErrorInfo | None:
    inline = sum(len(item.data.encode()) for item in request.inputs if item.data is not None)
    if inline > MAX_INLINE_BYTES:
        return error(
            "input_invalid",
            f"the inputs carry {inline} bytes inline, more than {MAX_INLINE_BYTES} together; attach them as blobs",
        )
    problems = (_problem_of(item, rules) for item in request.inputs)
    return next((problem for problem in problems if problem is not None), None)


def _problem_of(item: Input, rules: Rules) -> ErrorInfo | None:
    if (item.uri is None) == (item.data is None):
        return error("input_invalid", f"input {item.name!r} needs exactly one of uri and data", input=item.name)
    if item.uri is None or BLOB_URI.fullmatch(item.uri):
        return None
    if not item.uri.startswith("file:"):
        return error(
            "input_invalid",
            f"input {item.name!r}: the uri {item.uri[:200]!r} is neither "
            "blob:sha256/<64 hexadecimal digits> nor file:<path>",
            input=item.name,
        )
    if not rules.reads_files:
        return error(
            "input_outside_roots",
            f"input {item.name!r}: this deployment reads no files; attach it as a "
            "blob, or configure an input root (RAA_INPUT_ROOTS)",
            input=item.name,
        )
    return None


def _unusable_plan(request: TaskCreated) -> ErrorInfo | None:
    if request.plan is None:
        return None
    try:
        request.plan.content_hash()
    except (ValueError, RecursionError) as problem:
        return error("plan_invalid", f"the given plan is no plain JSON: {problem}")
    return None
