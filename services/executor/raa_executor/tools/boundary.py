"""The boundary to code that is not ours: runs a tool's function and keeps whatever it raises as a value."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self


class Outcome:
    """Hold what foreign code returned or raised; leaving the `with` block with an error keeps it here.

    A `SystemExit` of a tool must end its step, not the service; only a cancellation passes through.
    """

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return not isinstance(error, asyncio.CancelledError | GeneratorExit)


async def run_foreign(function: Callable[..., Any], keywords: dict[str, Any]) -> Outcome:
    """Call `function`, on the loop if it is async, otherwise in a thread of its own."""
    if not inspect.iscoroutinefunction(function):
        return await _in_thread(function, keywords)
    outcome = Outcome()
    with outcome:
        outcome.value = await function(**keywords)
    return outcome


async def _in_thread(function: Callable[..., Any], keywords: dict[str, Any]) -> Outcome:
    """Use a new daemon thread: a stuck tool must neither occupy a shared pool nor keep the process from ending."""
    done: Future[Outcome] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        outcome = Outcome()
        with outcome:
            outcome.value = context.run(function, **keywords)
        if done.set_running_or_notify_cancel():
            done.set_result(outcome)

    threading.Thread(target=run, name="tool", daemon=True).start()
    outcome = await asyncio.wrap_future(done)
    if inspect.isawaitable(outcome.value):  # a plain function that returns a coroutine, as functools.partial makes
        return await _awaited(outcome.value)
    return outcome


async def _awaited(value: Awaitable[Any]) -> Outcome:
    outcome = Outcome()
    with outcome:
        outcome.value = await value
    return outcome
