"""What B4 does with many records on Kafka; one process, one answer per job, in JSON lines.

python -m benchmarks.backlog fill COUNT      publish so many task.created
python -m benchmarks.backlog drain COUNT     a service with state takes them in its group, decides, publishes
python -m benchmarks.backlog replay COUNT    a new group reads and validates them, in lanes, with commits
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.own import HOP, HOPS, create_topics, first, on_event, services, settings
from benchmarks.peers.client import Task
from benchmarks.peers.environment import RUN
from benchmarks.stateless import Stage
from raa_runtime.bus.port import Bus
from raa_runtime.dispatch import On
from raa_runtime.main import run_loop
from raa_runtime.platform import Platform, open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.telemetry import configure_logging
from raa_runtime.testing import message_of
from raa_schemas.event import Event
from raa_schemas.ids import owned
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated

BATCH: Final = 1_000
MOST_SECONDS: Final = 240.0
Report = dict[str, float]


async def fill(platform: Platform, count: int) -> Report:
    """Publish."""
    await create_topics(settings(), platform.bus, HOPS)
    began = time.monotonic()
    for start in range(0, count, BATCH):
        tasks = (Task(f"task{number}", 0) for number in range(start, min(start + BATCH, count)))
        messages = [message_of(first(task), deployment=RUN) for task in tasks]
        for problem in await platform.bus.publish(messages):
            if problem:
                raise problem
    return {"seconds": time.monotonic() - began, "records": await records(platform.bus, TaskCreated)}


async def drain(platform: Platform, count: int) -> Report:
    """Take them as the first of the four services does."""

    def build(known: ServiceSettings, platform: Platform) -> list[Service]:
        return [Service("hop0", known, platform, kinds=[HOP], on=[On(HOPS[0], HOP, on_event)])]

    report = await until_committed(platform, build, "hop0", count)
    return report | {"records": await records(platform.bus, PlanRejected)}


async def replay(platform: Platform, count: int) -> Report:
    """Read them in a group that was never there."""
    stage = Stage(0, settings(), platform, passes_on=False, group="replay")
    report = await until_committed(platform, lambda *_: [stage], "replay", count)
    return report | {"records": stage.handled}


async def until_committed(platform: Platform, build: Callable[..., object], group: str, count: int) -> Report:
    """Run services until the group has committed so many records; counts from before they start."""
    began = time.monotonic()
    topic = owned(RUN, TaskCreated.event_type())
    async with asyncio.timeout(MOST_SECONDS), services(settings(), platform, build):  # type: ignore[arg-type]
        joined = None
        while True:
            committed = sum((await platform.bus.committed(owned(RUN, group), [topic])).values())
            if committed and joined is None:
                joined = time.monotonic()
            if committed >= count:
                return {"seconds": time.monotonic() - began, "first_commit_seconds": (joined or began) - began}
            await asyncio.sleep(0.1)


async def records(bus: Bus, event: type[Event]) -> int:
    """Count the records on a topic."""
    return sum((await bus.end_offsets([owned(RUN, event.event_type())])).values())


JOBS: Final[dict[str, Callable[[Platform, int], Awaitable[Report]]]] = {"fill": fill, "drain": drain, "replay": replay}


async def main(job: str, count: int) -> None:
    """Do one job and say how it went."""
    configure_logging("warning")
    async with open_platform(settings()) as platform:
        report = await JOBS[job](platform, count)
        os.write(1, json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    run_loop(main(sys.argv[1], int(sys.argv[2])))
