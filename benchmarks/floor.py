"""CPU per task of the runtime alone: four services that only decide, state and outbox on, embedded bus and SQLite."""

import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import clocked, report, resident_mb
from raa_runtime.dispatch import On
from raa_runtime.main import run_loop, settle_memory
from raa_runtime.platform import open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_runtime.unit import Received, Unit
from raa_schemas.cancel import CancelRequested
from raa_schemas.event import Event
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated, TaskDone, TaskStalled

TASKS, WARM_UP = 5_000, 500


class Hop(State):
    """What each of the four services keeps of a task."""

    seen: int = 0


HOP = Kind("hop", Hop)


def next_of(event: type[Event], task: str) -> Event:
    """Build the event that follows."""
    following: dict[type[Event], Any] = {
        TaskCreated: lambda: PlanRejected(task_id=task, plan_version=1, findings=[]),
        PlanRejected: lambda: TaskStalled(
            task_id=task, group="b", dead_letter_topic="b.dlq", dead_type="x", error_class="none", message="none"
        ),
        TaskStalled: lambda: CancelRequested(task_id=task),
        CancelRequested: lambda: TaskDone(task_id=task, outcome="succeeded"),
    }
    built: Event = following[event]()
    return built


def on_event(unit: Unit[Hop], event: Received[Any]) -> None:
    """Count and pass on."""
    unit.state.seen += 1
    unit.publish(next_of(type(event.data), unit.task_id))
    unit.close()


async def wait_for(bus: Any, count: int) -> None:
    """Wait until so many tasks are done; fails if one is missing or came twice."""
    seen: set[str] = set()
    async for record in bus.read(["task.done"], from_beginning=True, follow=True):
        seen.add(dict(record.headers)["ce_subject"].decode())
        if len(seen) == count:
            return


async def main() -> None:
    """Run it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ServiceSettings.from_env({}, data=Path(folder), max_in_flight=2048)
        async with AsyncExitStack() as opened:
            platform = await opened.enter_async_context(open_platform(settings))
            await platform.bus.apply_topics(topic_specs(settings))
            for number, event in enumerate((TaskCreated, PlanRejected, TaskStalled, CancelRequested)):
                service = Service(f"hop{number}", settings, platform, kinds=[HOP], on=[On(event, HOP, on_event)])
                await service.start()
                opened.push_async_callback(service.drain)
            await send(platform.bus, "warm", WARM_UP)
            await wait_for(platform.bus, WARM_UP)
            figures: dict[str, Any] = {}
            settle_memory()
            with clocked(figures, "task", TASKS):
                await send(platform.bus, "task", TASKS)
                await wait_for(platform.bus, WARM_UP + TASKS)
            figures["resident_mb"] = resident_mb()
            report(
                "floor",
                figures,
                durability="SQLite synchronous=FULL for state and log, group commit",
                targets={"task_cpu_ms": "<= 0.5 is the aim of the next release; a bare prototype took 0.24"},
            )


async def send(bus: Any, prefix: str, count: int) -> None:
    """Publish tasks in batches, as a client would."""
    make = partial(TaskCreated, goal="nothing")
    for start in range(0, count, 500):
        batch = [message_of(make(task_id=f"{prefix}{number}")) for number in range(start, min(start + 500, count))]
        await bus.publish(batch)


if __name__ == "__main__":
    run_loop(main())
