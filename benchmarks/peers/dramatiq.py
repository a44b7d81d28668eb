"""dramatiq on Redis, 2 processes of 8 threads.

Durability: Redis appends to a file that is synced each second; messages are acknowledged after the work, so they are
delivered at least once; no state.
"""

import sys
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from benchmarks.peers.client import Body, Task, pass_on, serve
from benchmarks.peers.environment import REDIS, RUN, STAGES
from benchmarks.peers.redis_client import RedisClient, put_out

dramatiq.set_broker(RedisBroker(url=REDIS, namespace=RUN))
redis = Redis.from_url(REDIS)


@dramatiq.actor
def stage(body: Body, number: int) -> None:
    """Pass it on."""
    body = pass_on(body, number)
    if number + 1 < STAGES:
        stage.send(body, number + 1)
    else:
        put_out(redis, body)


async def submit(tasks: Sequence[Task]) -> None:
    """Enqueue."""
    for task in tasks:
        stage.send(task.body(), 0)


if __name__ == "__main__" and sys.argv[1] == "client":
    serve(RedisClient(submit))
