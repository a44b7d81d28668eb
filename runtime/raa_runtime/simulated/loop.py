"""An event loop in virtual time: a seed decides which of the ready callbacks runs next, and nobody ever waits.

When nothing is ready, time jumps to the next timer. Threads, sockets, signals and child processes do not exist here:
asking for one raises. The same seed and the same program give the same order, which `digest` proves.
"""

import asyncio
import heapq
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from raa_runtime.guard import result_of
from raa_runtime.simulated.process import PROCESS, Process, process_of

MOST_STEPS: Final = 2_000_000
STEP_SECONDS: Final = 1e-6
Killer = Callable[[Process], None]


class NothingLeftError(RuntimeError):
    """Nothing is ready and no timer is set: what is waited for will never come."""


class OrderedTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks have the same order in every run."""

    def __init__(self, coro: Any, *, loop: "SimulatedLoop", **options: Any) -> None:
        self.order = loop.next_order()
        context = options.get("context")
        self.process = PROCESS.get() if context is None else context.get(PROCESS)
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.order

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(BaseEventLoop):
    """The loop of one simulated world; `killer` is called when a process reaches the step it dies at."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.digest = seed
        self.killer: Killer = lambda _: None
        self._order = 0
        self._random = Random(seed).random  # noqa: S311  # chance has to repeat here
        self._ready: list[asyncio.Handle] = []
        self.set_task_factory(lambda _, coro, **options: OrderedTask(coro, loop=self, **options))

    def next_order(self) -> int:
        """Give the next number of a task."""
        self._order += 1
        return self._order

    def time(self) -> float:
        """Give the virtual time, in seconds from 0."""
        return self.now

    def mix(self, fact: int) -> None:
        """Let a fact count in the digest of the run."""
        self.digest = hash((self.digest, fact))

    def _run_once(self) -> None:
        ready, timers = self._ready, self._scheduled  # type: ignore[attr-defined]
        if not ready:
            self._jump(timers)
        while timers and timers[0]._when <= self.now:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        if ready:
            self._run_one(ready)

    def _jump(self, timers: list[asyncio.TimerHandle]) -> None:
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False  # type: ignore[attr-defined]
        if not timers:
            raise NothingLeftError(f"at {self.now:.3f} s nothing is ready and no timer is set")
        self.now = max(self.now, timers[0]._when)  # type: ignore[attr-defined]

    def _run_one(self, ready: list[asyncio.Handle]) -> None:
        count = len(ready)
        chosen = int(self._random() * count) if count > 1 else 0
        handle, ready[chosen] = ready[chosen], ready[-1]
        ready.pop()
        if handle._cancelled:
            return
        process = process_of(handle)
        if process is not None:
            if process.state == "frozen":
                process.waiting.append(handle)
                return
            process.steps += 1
            if process.steps == process.dies_at:
                self.killer(process)
            if process.state == "dead":
                return
        self.steps += 1
        self.now += STEP_SECONDS
        if self.steps > MOST_STEPS:
            raise NothingLeftError(f"at {self.now:.3f} s {MOST_STEPS} callbacks have run; it turns in circles")
        self.digest = hash((self.digest, self.now, chosen, count))
        handle._run()

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on with all that came up meanwhile."""
        process.state = "alive"
        self._ready += process.waiting
        process.waiting = []

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # as above
        """Refuse: a thread has a time of its own."""
        raise NotImplementedError(f"{func!r} asks for a thread, which virtual time does not have")

    def call_soon_threadsafe(  # type: ignore[override]  # the stub is generic
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Call soon: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def _write_to_self(self) -> None:
        return

    def _process_events(self, event_list: Any) -> None:
        return

    def end(self) -> list[asyncio.Task[Any]]:
        """Close the loop; gives the tasks that were left, which nobody will miss."""
        left = sorted(asyncio.all_tasks(self), key=hash)
        for task in left:
            dismiss(task)
        self._ready.clear()
        self.close()
        return left


def dismiss(task: "asyncio.Task[Any]") -> None:
    """Drop a task that will never run again without a word about it; keep it until `lay_to_rest`."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def lay_to_rest(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Close the coroutines of dismissed tasks once nothing they do in passing can reach anybody."""
    for task in tasks:
        result_of(task.get_coro().close)  # whatever it raises now, nobody waits for it
