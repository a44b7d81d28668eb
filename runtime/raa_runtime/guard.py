"""The one place that catches everything: a failure becomes a value, and the policy decides what it means."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def outcome_of(work: Callable[[], Awaitable[T]]) -> T | Exception:
    """Await `work` and return its result or what it raised. Cancellation passes through."""
    try:
        return await work()
    except Exception as problem:
        return problem
