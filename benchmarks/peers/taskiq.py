"""taskiq on a Redis list with one worker process, its defaults.

Durability: Redis appends to a file that is synced each second; a task is off the list before it runs, so a crash
loses what is under way; no state.
"""

import asyncio
import json
import sys
from collections.abc import Sequence

from redis.asyncio import Redis
from taskiq_redis import ListQueueBroker

from benchmarks.peers.client import Body, Task, pass_on, serve
from benchmarks.peers.environment import REDIS, RUN, STAGES, topic
from benchmarks.peers.redis_client import RedisClient

broker = ListQueueBroker(REDIS, queue_name=RUN)
redis = Redis.from_url(REDIS)


@broker.task(task_name="stage")
async def stage(body: Body, number: int) -> None:
    """Pass it on."""
    body = pass_on(body, number)
    if number + 1 < STAGES:
        await stage.kiq(body, number + 1)
    else:
        await redis.rpush(topic(STAGES), json.dumps(body))


class TaskiqClient(RedisClient):
    """Submit with `kiq`."""

    def __init__(self) -> None:
        async def submit(tasks: Sequence[Task]) -> None:
            await asyncio.gather(*(stage.kiq(task.body(), 0) for task in tasks))

        super().__init__(submit)

    async def start(self) -> None:
        """Start the broker too."""
        await super().start()
        await broker.startup()


if __name__ == "__main__" and sys.argv[1] == "client":
    serve(TaskiqClient())
