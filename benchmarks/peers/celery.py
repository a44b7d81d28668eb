"""Celery on Redis, prefork with 2 processes, acknowledged late, without results.

Durability: Redis appends to a file that is synced each second; `acks_late`, so tasks are delivered at least once (its
default can lose what is under way); no state.
"""

import sys
from collections.abc import Sequence

from celery import Celery
from redis import Redis

from benchmarks.peers.client import Body, Task, pass_on, serve
from benchmarks.peers.environment import REDIS, RUN, STAGES
from benchmarks.peers.redis_client import RedisClient, put_out

app = Celery("stages", broker=REDIS)
app.conf.update(task_acks_late=True, task_ignore_result=True, task_default_queue=RUN, worker_hijack_root_logger=False)
redis = Redis.from_url(REDIS)


@app.task(name="stage")  # type: ignore[untyped-decorator]  # Celery ships no types
def stage(body: Body, number: int) -> None:
    """Pass it on."""
    body = pass_on(body, number)
    if number + 1 < STAGES:
        stage.delay(body, number + 1)
    else:
        put_out(redis, body)


async def submit(tasks: Sequence[Task]) -> None:
    """Enqueue."""
    for task in tasks:
        stage.delay(task.body(), 0)


if __name__ == "__main__" and sys.argv[1] == "client":
    serve(RedisClient(submit))
