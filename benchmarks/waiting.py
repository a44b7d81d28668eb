"""Three stages that each wait 50 ms on the outside for every event, in the order of its key: ours, as services do it.

A stage is an aggregate per key with a queue; the wait is an activity, and its end publishes and starts the next.

    python -m benchmarks.waiting client|worker
"""

import asyncio
from datetime import timedelta
from typing import Any, Final

from pydantic import Field

from benchmarks.own import HOPS, content, following, main
from benchmarks.peers.client import Task
from benchmarks.peers.environment import WAIT_SECONDS
from raa_runtime.activities import Call
from raa_runtime.dispatch import On
from raa_runtime.platform import Platform
from raa_runtime.service import Does, Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Completed, Received, Unit
from raa_schemas.event import Event
from raa_schemas.task import TaskCreated, TaskDone

STAGES: Final = 3
TIMEOUT: Final = timedelta(seconds=60)


class Stage(State):
    """The events of one key that wait for their turn, by number; the first of them is under way."""

    queue: list[int] = Field(default_factory=list)


STAGE: Final = Kind("stage", Stage)


def first(task: Task) -> TaskCreated:
    """Make the event a client sends: the number, and no more, as the queue of a hot key is part of its state."""
    return TaskCreated(task_id=task.key, goal=f"{task.number} x")


def stage(number: int, settings: ServiceSettings, platform: Platform) -> Service:
    """Put one stage together."""
    event = HOPS[number]

    def on_event(unit: Unit[Stage], received: Received[Any]) -> None:
        unit.state.queue.append(content(received.data)[0])
        if len(unit.state.queue) == 1:
            unit.start("wait", {}, timeout=TIMEOUT)

    def on_waited(unit: Unit[Stage], _: Completed) -> None:
        unit.publish(_next(number, unit.task_id, unit.state.queue.pop(0)))
        if unit.state.queue:
            unit.start("wait", {}, timeout=TIMEOUT)

    async def wait(_: Call) -> None:
        await asyncio.sleep(WAIT_SECONDS)

    return Service(
        f"hop{number}",
        settings,
        platform,
        kinds=[STAGE],
        on=[On(event, STAGE, on_event)],
        does=[Does("wait", STAGE, wait, on_waited)],
    )


def _next(number: int, task: str, count: int) -> Event:
    if number + 1 == STAGES:
        return TaskDone(task_id=task, outcome="succeeded", result=f"{count} x")
    event: Event = TaskCreated(task_id=task, goal=f"{count} x")
    for _ in range(number + 1):
        event = following(event, task)
    return event


def stages(settings: ServiceSettings, platform: Platform) -> list[Service]:
    """Put the three stages together."""
    return [stage(number, settings, platform) for number in range(STAGES)]


if __name__ == "__main__":
    main(stages, first)
