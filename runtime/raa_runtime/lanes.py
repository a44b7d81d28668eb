"""One queue per aggregate: what concerns one aggregate happens in order, everything else at the same time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from raa_runtime.guard import outcome_of

Item = Callable[[], Awaitable[None]]
Report = Callable[[str, Exception], None]
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 30.0


class Lanes:
    """Run items of one lane one after another.

    Items should not raise: the policy that puts them in decides on errors. One that does is reported and stays at the
    head of its lane until it succeeds, because whoever put it in counts on its end.
    """

    def __init__(self, report: Report = lambda *_: None) -> None:
        self._queues: dict[str, deque[Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._report = report

    def put(self, lane: str, item: Item) -> None:
        """Append an item to a lane; an idle lane starts at once."""
        queue = self._queues.get(lane)
        if queue is not None:
            queue.append(item)
            return
        self._queues[lane] = deque((item,))
        task = asyncio.create_task(self._run(lane), name=f"lane {lane}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: str) -> None:
        queue = self._queues[lane]
        pause = FIRST_PAUSE_SECONDS
        try:
            while queue:
                problem = await outcome_of(queue[0])
                if isinstance(problem, Exception):
                    self._report(lane, problem)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                    continue
                pause = FIRST_PAUSE_SECONDS
                queue.popleft()
        finally:
            del self._queues[lane]

    def __len__(self) -> int:
        """Count the items waiting or running."""
        return sum(len(queue) for queue in self._queues.values())

    async def idle(self) -> None:
        """Wait until every lane is empty."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self, timeout_seconds: float = 5.0) -> None:
        """Stop all lanes where they are; waits no longer than this for one that does not let go."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
