"""A client of task queues on Redis: the last stage of each pushes what came out to one list, read here in batches."""

import json
from collections.abc import Awaitable, Callable, Sequence

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from benchmarks.peers.client import Body, End, Task
from benchmarks.peers.environment import REDIS, STAGES, topic

Submit = Callable[[Sequence[Task]], Awaitable[None]]


def put_out(redis: Redis, body: Body) -> None:
    """Do what the last stage does."""
    redis.rpush(topic(STAGES), json.dumps(body))


class RedisClient:
    """Submit as the library does, read the list."""

    def __init__(self, submit: Submit) -> None:
        self.submit = submit

    async def start(self) -> None:
        """Connect."""
        self._redis = AsyncRedis.from_url(REDIS)

    async def ends(self) -> Sequence[End]:
        """Read what came out."""
        while True:
            found = await self._redis.blmpop(1, 1, topic(STAGES), direction="LEFT", count=500)
            if found:
                return [End.of(json.loads(item)) for item in found[1]]

    async def stop(self) -> None:
        """Disconnect."""
        await self._redis.aclose()
