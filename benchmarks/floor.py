"""CPU per task of the runtime alone: four services that only decide, with validation, state, outbox and tombstones.

`pipeline` runs it on any bus and store that the settings name; alone, this module takes the embedded bus and SQLite.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import cpu_seconds, report, resident_mb
from raa_runtime.dispatch import On
from raa_runtime.main import run_loop, settle_memory
from raa_runtime.platform import Platform, open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.state.port import DocumentStore, Outcome, Write
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_runtime.unit import Received, Unit
from raa_schemas.cancel import CancelRequested
from raa_schemas.event import Event
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated, TaskDone, TaskStalled
from raa_schemas.topics import redrive_topic

TASKS, WARM_UP = 5_000, 500


class Hop(State):
    """What each of the four services keeps of a task."""

    seen: int = 0


HOP = Kind("hop", Hop)
HOPS: dict[str, type[Event]] = {
    "hop0": TaskCreated,
    "hop1": PlanRejected,
    "hop2": TaskStalled,
    "hop3": CancelRequested,
}


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


class NoState(SqliteStore):
    """A store that keeps no aggregate: what is left is bus, envelope, validation, lanes and outbox."""

    async def find(self, *_: Any) -> None:
        """Find nothing."""

    async def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Keep nothing."""
        return ["stored"] * len(writes)


async def wait_for(bus: Any, count: int) -> None:
    """Wait until so many tasks are done."""
    seen: set[bytes] = set()
    async for record in bus.read(["task.done"], from_beginning=True, follow=True):
        seen.add(record.key)
        if len(seen) == count:
            return


async def wait_for_tombstones(stores: Collection[DocumentStore]) -> None:
    """Wait until every aggregate has shrunk: what is left to do is to forget them, in days."""
    for store in stores:
        while (await store.next_wake(HOP.name, None) or 2.0**40) < time.time() + 3_600:  # noqa: ASYNC110
            await asyncio.sleep(0.25)


async def send(bus: Any, prefix: str, count: int) -> None:
    """Publish tasks in batches, as a client would."""
    make = partial(TaskCreated, goal="nothing")
    for start in range(0, count, 500):
        batch = [message_of(make(task_id=f"{prefix}{number}")) for number in range(start, min(start + 500, count))]
        await bus.publish(batch)


async def start_hops(opened: AsyncExitStack, platform: Platform, settings: ServiceSettings) -> None:
    """Start the four services of the pipeline."""
    for name, event in HOPS.items():
        service = Service(name, settings, platform, kinds=[HOP], on=[On(event, HOP, on_event)])
        await service.start()
        opened.push_async_callback(service.drain)


async def pipeline(
    settings: ServiceSettings, tasks: int = TASKS, warm_up: int = WARM_UP, *, state: bool = True
) -> dict[str, Any]:
    """Run tasks through the four hops on the bus and store of these settings; without `state` nothing is kept.

    CPU is that of this process until all have shrunk to tombstones, throughput that until the last is done. A task that
    got lost makes it wait for ever.
    """
    stores: list[DocumentStore] = []
    async with AsyncExitStack() as opened:
        platform = await opened.enter_async_context(open_platform(settings))
        open_store: Callable[[str], DocumentStore] = (
            platform.open_store if state else lambda name: NoState(settings.data / f"{name}.sqlite")
        )

        def keep(name: str) -> DocumentStore:
            stores.append(open_store(name))
            return stores[-1]

        platform = replace(platform, open_store=keep)
        specs = topic_specs(settings)
        await platform.bus.apply_topics([*specs, *(replace(specs[0], name=redrive_topic(hop)) for hop in HOPS)])
        await start_hops(opened, platform, settings)
        await send(platform.bus, "warm", warm_up)
        await wait_for(platform.bus, warm_up)
        await wait_for_tombstones(stores)
        settle_memory()
        cpu, wall = cpu_seconds(), time.monotonic()
        await send(platform.bus, "task", tasks)
        await wait_for(platform.bus, warm_up + tasks)
        seconds = time.monotonic() - wall
        await wait_for_tombstones(stores)
        return {
            "task_cpu_ms": round((cpu_seconds() - cpu) / tasks * 1000, 3),
            "task_per_second": round(tasks / seconds, 1),
            "resident_mb": resident_mb(),
        }


def main() -> None:
    """Run it on the embedded bus and SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ServiceSettings.from_env({}, data=Path(folder), max_in_flight=2048)
        figures = run_loop(pipeline(settings))
    report(
        "floor",
        figures,
        durability="SQLite synchronous=FULL for state and log, group commit; tombstones included",
        targets={"task_cpu_ms": "<= 0.5; a bare prototype took 0.24"},
    )


if __name__ == "__main__":
    main()
