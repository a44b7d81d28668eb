"""The one place that catches everything: a failure becomes a value, and the policy decides what it means."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class StrayCancellationError(Exception):
    """Something inside was cancelled, though nobody cancelled this task: a failure like any other."""


async def outcome_of(work: Callable[..., Awaitable[T]], *args: Any) -> T | Exception:
    """Await `work` and return its result or what it raised. The cancellation of this very task passes through."""
    try:
        return await work(*args)
    except Exception as problem:
        return problem
    except asyncio.CancelledError as stray:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return StrayCancellationError(f"something it waited for was cancelled {stray}".rstrip())


def result_of(work: Callable[..., T], *args: Any) -> T | Exception:
    """Call `work` and return its result or what it raised."""
    try:
        return work(*args)
    except Exception as problem:
        return problem
