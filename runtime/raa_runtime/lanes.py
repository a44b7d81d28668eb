"""One queue per aggregate: what concerns one aggregate happens in order, everything else at the same time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

Item = Callable[[], Awaitable[None]]


class Lanes:
    """Run items of one lane one after another. Items must not raise: the policy that puts them in decides on errors."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

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
        try:
            while queue:
                await queue[0]()
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

    async def cancel(self) -> None:
        """Stop all lanes where they are."""
        for task in self._tasks:
            task.cancel()
        await self.idle()
