"""Starts a program of ours as `python -m` would, and ends it at the k-th point where a handler or activity waits.

    python failpoints.py MODULE [ARGUMENT…]

A point is every suspension of a lane or activity task, and of any task one of them starts, and every resumption behind
it: at the first what is awaited is not yet done, at the second it is done and nobody knows. Read from the environment;
the first two are taken out of it, because no program of ours knows them:

    RAA_FAILPOINT                 the point at which the process ends as by a power cut; 0 or absent: never
    RAA_FAILPOINT_COUNT           file that holds how many points were passed so far
    RAA_TEST_SHORT_PREPARATION    seconds a tool call gets besides its own timeout, instead of 60
    RAA_TEST_SHORT_GRACE          seconds after the deadline of a call until it is looked up, instead of 15
    RAA_TEST_SHORT_POLL           seconds without a poll after which Kafka's client leaves its group, instead of never
"""

import asyncio
import os
import runpy
import sys
from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_COUNTED: Final = ("lane ", "activity ")
_POWER_CUT: Final = 137


class Points:
    """Counts points over all tasks of the process."""

    def __init__(self, end_at: int, file: Path | None) -> None:
        self._end_at, self.passed = end_at, 0
        self._file = os.open(file, os.O_CREAT | os.O_WRONLY) if file else None

    def passed_one(self, work: Any, how: str) -> None:
        """Count; ends the process here if this is the one."""
        self.passed += 1
        if self._file is not None:
            os.pwrite(self._file, f"{self.passed:10d}".encode(), 0)
        if self.passed == self._end_at:
            task = asyncio.current_task()
            name = task.get_name() if task else "?"
            os.write(2, f"failpoint {self.passed}: {how} {name} at {_where(work)}\n".encode())
            os._exit(_POWER_CUT)


def _where(work: Any) -> str:
    """Name the innermost function of ours that waits."""
    place = "?"
    while work is not None:
        frame = getattr(work, "cr_frame", None) or getattr(work, "gi_frame", None)
        if frame is not None and "raa_" in frame.f_code.co_filename:
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
        work = getattr(work, "cr_await", None) or getattr(work, "gi_yieldfrom", None)
    return place


class Counted(Coroutine[Any, Any, Any]):
    """A coroutine that counts where it waits; `always` if whoever started it is counted."""

    def __init__(self, work: Coroutine[Any, Any, Any], points: Points, *, always: bool) -> None:
        self._work, self._points, self._always = work, points, always
        self._waits = False

    def send(self, value: Any) -> Any:
        """Go on until it waits again."""
        return self._step(lambda: self._work.send(value))

    def throw(self, kind: Any, value: BaseException | object = None, trace: TracebackType | None = None, /) -> Any:
        """Go on with an exception."""
        problem: Any = kind if value is None else value
        return self._step(lambda: self._work.throw(problem))

    def _step(self, go_on: Callable[[], Any]) -> Any:
        if self._waits and self.counts:
            self._points.passed_one(self._work, "before going on with")
        waited_for = go_on()
        self._waits = True
        if self.counts:
            self._points.passed_one(self._work, "while waiting in")
        return waited_for

    @property
    def counts(self) -> bool:
        """Say whether the running task is one whose points count; it has its name by now."""
        task = asyncio.current_task()
        return self._always or (task is not None and task.get_name().startswith(_COUNTED))

    def close(self) -> None:
        """End it."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()


def count_points(loop: asyncio.AbstractEventLoop, points: Points) -> asyncio.AbstractEventLoop:
    """Let a loop count the points of what runs in it."""
    running: dict[int, Counted] = {}

    def make(own: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        parent = running.get(id(_current(own)))
        counted = Counted(work, points, always=parent is not None and parent.counts)
        task = asyncio.Task(counted, loop=own, **options)
        running[id(task)] = counted
        task.add_done_callback(lambda done: running.pop(id(done), None))
        return task

    loop.set_task_factory(make)
    return loop


def _current(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def _counting(make: Callable[[], asyncio.AbstractEventLoop], points: Points) -> asyncio.AbstractEventLoop:
    return count_points(make(), points)


def _install(points: Points) -> None:
    """Put the counter into every loop this process makes, whichever kind it is."""
    import uvloop

    for module in (uvloop, asyncio.events):
        make: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
        vars(module)["new_event_loop"] = partial(_counting, make, points)


def _shorten(preparation: str, grace: str, poll: str) -> None:
    if grace:
        from raa_runtime import unit_of_work

        vars(unit_of_work)["ACTIVITY_GRACE_SECONDS"] = float(grace)
    if preparation:
        from raa_executor.domain import step

        vars(step)["PREPARATION"] = timedelta(seconds=float(preparation))
    if poll:
        from raa_runtime.bus import kafka_consumer

        vars(kafka_consumer)["_NEVER_MS"] = int(float(poll) * 1000)


def main(module: str, arguments: list[str]) -> None:
    """Read what to do from the environment, and become the program."""
    sys.path.pop(0)  # this folder's modules are not its
    end_at, file = int(os.environ.pop("RAA_FAILPOINT", "0")), os.environ.pop("RAA_FAILPOINT_COUNT", "")
    _shorten(*(os.environ.get(f"RAA_TEST_SHORT_{name}", "") for name in ("PREPARATION", "GRACE", "POLL")))
    if end_at or file:
        _install(Points(end_at, Path(file) if file else None))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
