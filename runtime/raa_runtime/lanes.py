"""One queue per aggregate: what concerns one aggregate happens in order, everything else at the same time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

from raa_runtime.guard import outcome_of

Work = Callable[..., Awaitable[None]]
Item_contra = TypeVar("Item_contra", contravariant=True)
Item = TypeVar("Item")
Report = Callable[[str, Exception], None]
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 30.0
# so many share the wait for the slowest of them, and the memory of what they load
MOST_TOGETHER: Final = 250


class Convoy(Protocol[Item_contra]):
    """How items are run that start in one tick of the loop, each at the head of its lane."""

    async def together(self, items: Sequence[Item_contra]) -> Sequence[bool]:
        """Run what can be run together; says of each whether it is done. What is not runs alone."""
        ...

    async def alone(self, item: Item_contra) -> None:
        """Run one item."""
        ...


class Lanes:
    """Run items of one lane one after another.

    Items should not raise: the policy that puts them in decides on errors. One that does is reported and stays at the
    head of its lane until it succeeds, because whoever put it in counts on its end.
    """

    def __init__(self, report: Report = lambda *_: None) -> None:
        self._queues: dict[str, deque[tuple[Work, tuple[Any, ...]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: dict[tuple[Convoy[Any], int | None], list[tuple[str, Any]]] = {}
        self._report = report

    def put(self, lane: str, work: Work, *args: Any) -> None:
        """Append work to a lane; an idle lane starts at once."""
        queue = self._queues.get(lane)
        if queue is not None:
            queue.append((work, args))
            return
        queue = self._queues[lane] = deque(((work, args),))
        self._spawn(f"lane {lane}", self._run(lane, queue))

    def join(self, lane: str, convoy: Convoy[Item], item: Item, partition: int | None) -> None:
        """Append an item; if its lane is idle, it starts with the others of this partition and this tick."""
        work = (convoy.alone, (item,))
        queue = self._queues.get(lane)
        if queue is not None:
            queue.append(work)
            return
        self._queues[lane] = deque((work,))
        if (convoy, partition) not in self._starting:
            self._starting[convoy, partition] = []
            self._spawn("convoy", self._start(convoy, partition))
        self._starting[convoy, partition].append((lane, item))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, convoy: Convoy[Any], partition: int | None) -> None:
        items = self._starting.pop((convoy, partition))
        for start in range(MOST_TOGETHER, len(items), MOST_TOGETHER):
            self._spawn("convoy", self._run_together(convoy, items[start : start + MOST_TOGETHER]))
        await self._run_together(convoy, items[:MOST_TOGETHER])

    async def _run_together(self, convoy: Convoy[Any], items: list[tuple[str, Any]]) -> None:
        done = await outcome_of(convoy.together, [item for _, item in items])
        for number, (lane, _) in enumerate(items):
            queue = self._queues[lane]
            if isinstance(done, Exception) or not done[number]:
                self._spawn(f"lane {lane}", self._run(lane, queue))
                continue
            queue.popleft()
            if queue:
                self._spawn(f"lane {lane}", self._run(lane, queue))
            else:
                del self._queues[lane]

    async def _run(self, lane: str, queue: deque[tuple[Work, tuple[Any, ...]]]) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while queue:
                work, args = queue[0]
                problem = await outcome_of(work, *args)
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
