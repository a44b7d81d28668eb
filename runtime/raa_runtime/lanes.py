"""One queue per aggregate: what concerns one aggregate happens in order, everything else at the same time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

from raa_runtime.guard import outcome_of

Work = Callable[..., Awaitable[None]]
Queue = deque[tuple[Work, tuple[Any, ...], bool]]
Item_contra = TypeVar("Item_contra", contravariant=True)
Item = TypeVar("Item")
Report = Callable[[str, Exception], None]
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 30.0
# so many share the wait for the slowest of them, and the memory of what they load
MOST_TOGETHER: Final = 250
_ASIDE: Final = " aside"


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

    A head that only waits for others may let pass what was put in as passing. That runs in a lane of its own beside it,
    by the same rules, and the head goes on only when this is empty: no two items of a lane are ever at work at once.
    """

    def __init__(self, report: Report = lambda *_: None) -> None:
        self._queues: dict[str, Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._heads: dict[asyncio.Task[Any], Sequence[str]] = {}
        self._open: set[str] = set()
        self._asides: dict[str, asyncio.Task[None]] = {}
        self._starting: dict[tuple[Convoy[Any], int | None], list[tuple[str, Any]]] = {}
        self._report = report

    def put(self, lane: str, work: Work, *args: Any, passing: bool = False) -> None:
        """Append work to a lane; an idle lane starts at once. What is `passing` need not wait for a head that waits."""
        aside = False
        while passing and lane in self._open:
            lane, aside = lane + _ASIDE, True
        queue = self._queues.get(lane)
        if queue is not None:
            queue.append((work, args, passing))
            return
        queue = self._queues[lane] = deque(((work, args, passing),))
        task = self._spawn(f"lane {lane}", self._run(lane, queue))
        if aside:
            self._asides[lane] = task

    def let_pass(self, task: "asyncio.Task[Any] | None") -> None:
        """Let others pass what this task runs at the head of its lanes, until it calls `go_on`."""
        for lane in self._heads.get(task, ()) if task else ():
            self._open.add(lane)
            queue = self._queues[lane]
            head, *others = queue
            queue.clear()
            queue.append(head)
            for work, args, passing in others:
                if passing:
                    self.put(lane, work, *args, passing=True)
                else:
                    queue.append((work, args, False))

    async def go_on(self) -> None:
        """Let nobody pass the running head any more, and wait for those who are at it."""
        task = asyncio.current_task()
        opened = self._open.intersection(self._heads.get(task, ())) if task and self._open else ()
        self._open.difference_update(opened)
        for lane in opened:
            aside = self._asides.pop(lane + _ASIDE, None)
            if aside is not None:
                await asyncio.wait([aside])

    def join(
        self, lane: str, convoy: Convoy[Item], item: Item, partition: int | None, *, passing: bool = False
    ) -> None:
        """Append an item; in an idle lane it starts with the others of this tick and `partition`."""
        if lane in self._queues:
            self.put(lane, convoy.alone, item, passing=passing)
            return
        self._queues[lane] = deque(((convoy.alone, (item,), passing),))
        if (convoy, partition) not in self._starting:
            self._starting[convoy, partition] = []
            self._spawn("convoy", self._start(convoy, partition))
        self._starting[convoy, partition].append((lane, item))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._heads.pop(task, None)

    async def _start(self, convoy: Convoy[Any], partition: int | None) -> None:
        items = self._starting.pop((convoy, partition))
        for start in range(MOST_TOGETHER, len(items), MOST_TOGETHER):
            self._spawn("convoy", self._run_together(convoy, items[start : start + MOST_TOGETHER]))
        await self._run_together(convoy, items[:MOST_TOGETHER])

    async def _run_together(self, convoy: Convoy[Any], items: list[tuple[str, Any]]) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._heads[task] = [lane for lane, _ in items]
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

    async def _run(self, lane: str, queue: Queue) -> None:
        pause = FIRST_PAUSE_SECONDS
        task = asyncio.current_task()
        if task is not None:
            self._heads[task] = (lane,)
        try:
            while queue:
                work, args, _ = queue[0]
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
