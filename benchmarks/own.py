"""Our side of the comparison: the runtime as services use it, four hops of 0.6 KB records, envelope included.

Every hop reads the envelope, validates the body, loads the aggregate, decides, stores state and outbox with one
conditional write, publishes, commits the offset; metrics are on, task contexts are passed on.

    python -m benchmarks.own client     the client; BENCH_VARIANT `embedded` runs the services in this process too
    python -m benchmarks.own worker     the services, all four in one process, until SIGTERM
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final, Protocol

from benchmarks.peers.client import End, Task, serve
from benchmarks.peers.environment import FOLDER, KAFKA, MONGO, PARTITIONS, RUN, STAGES, VARIANT
from raa_runtime.bus.port import Bus
from raa_runtime.dispatch import On
from raa_runtime.main import run_loop, settle_memory
from raa_runtime.platform import Platform, open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import configure_logging
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_runtime.unit import Received, Unit
from raa_schemas.cancel import CancelRequested
from raa_schemas.event import Event
from raa_schemas.ids import owned
from raa_schemas.plan import Finding, PlanRejected
from raa_schemas.task import TaskCreated, TaskDone, TaskStalled
from raa_schemas.topics import redrive_topic

TEXT_CHARACTERS: Final = 200
HOPS: Final[tuple[type[Event], ...]] = (TaskCreated, PlanRejected, TaskStalled, CancelRequested)


class Hop(State):
    """What each of the four services keeps of a task."""

    seen: int = 0


HOP: Final = Kind("hop", Hop)


def first(task: Task) -> TaskCreated:
    """Make the event a client sends; number and text travel with it."""
    return TaskCreated(task_id=task.key, goal=f"{task.number} {task.body(TEXT_CHARACTERS)['text']}")


def content(event: Any) -> tuple[int, str]:
    """Read number and text off an event."""
    match event:
        case TaskCreated(goal=text) | TaskStalled(message=text) | CancelRequested(reason=text):
            pass
        case PlanRejected(findings=[finding]):
            text = finding.message
        case TaskDone(result=text):
            pass
        case _:
            raise TypeError(f"the pipeline has no {type(event).__name__}")
    number, _, rest = text.partition(" ")
    return int(number), rest


def following(event: Any, task: str) -> Event:
    """Build the event of the next hop: its type is what says that no hop was left out."""
    number, rest = content(event)
    text = f"{number} {rest}"
    match event:
        case TaskCreated():
            return PlanRejected(task_id=task, plan_version=1, findings=[Finding(code="none", message=text)])
        case PlanRejected():
            return TaskStalled(
                task_id=task, group="b", dead_letter_topic="b.dlq", dead_type="x", error_class="none", message=text
            )
        case TaskStalled():
            return CancelRequested(task_id=task, reason=text)
        case _:
            return TaskDone(task_id=task, outcome="succeeded", result=text)


def on_event(unit: Unit[Hop], event: Received[Any]) -> None:
    """Count and pass on; a hop that ends its task closes the aggregate, as services do."""
    unit.state.seen += 1
    unit.publish(following(event.data, unit.task_id))
    unit.close()


def settings() -> ServiceSettings:
    """Say where bus and store are: `embedded`, `kafka-sqlite`, `kafka-mongo`, `kafka-stateless`."""
    kafka = {"bus": "kafka", "kafka_bootstrap": KAFKA} if VARIANT.startswith("kafka") else {}
    mongo = {"store": "mongo", "mongo_url": MONGO} if VARIANT.endswith("mongo") else {}
    return ServiceSettings.from_env(
        {},
        deployment=RUN,
        data=FOLDER,
        max_in_flight=2_048,
        kafka_partitions=PARTITIONS,
        create_topics=False,
        log_level="warning",
        **kafka,
        **mongo,
    )


class Runs(Protocol):
    """What starts and drains: a service."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def drain(self) -> None:
        """End."""
        ...


Build = Callable[[ServiceSettings, Platform], Sequence[Runs]]


def hops(known: ServiceSettings, platform: Platform) -> list[Service]:
    """Put the four services together."""
    return [
        Service(f"hop{number}", known, platform, kinds=[HOP], on=[On(event, HOP, on_event)])
        for number, event in enumerate(HOPS)
    ]


@contextlib.asynccontextmanager
async def services(known: ServiceSettings, platform: Platform, build: Build) -> AsyncIterator[None]:
    """Run services while the block runs."""
    async with AsyncExitStack() as opened:
        for service in build(known, platform):
            await service.start()
            opened.push_async_callback(service.drain)
        settle_memory()
        yield


async def create_topics(known: ServiceSettings, bus: Bus, events: Sequence[type[Event]]) -> None:
    """Create the few topics of the pipeline, as a deployment would all of its own."""
    wanted = {owned(known.deployment, event.event_type()) for event in events}
    specs = [spec for spec in topic_specs(known) if spec.name in wanted]
    redrives = [owned(known.deployment, redrive_topic(f"hop{number}")) for number in range(len(HOPS))]
    await bus.apply_topics([*specs, *(replace(specs[0], name=name, partitions=1) for name in redrives)])


class OwnClient:
    """Publish task.created, read task.done; with the embedded bus the services run in this process too."""

    def __init__(self, build: Build = hops, make: Callable[[Task], Event] = first) -> None:
        self._build, self._make = build, make
        self._settings = settings()
        self._opened = AsyncExitStack()
        self._sent = 0

    async def start(self) -> None:
        """Open the bus, and whatever runs here."""
        configure_logging("warning")
        platform = await self._opened.enter_async_context(open_platform(self._settings))
        self._bus = platform.bus
        await create_topics(self._settings, self._bus, (*HOPS, TaskDone))
        if self._settings.bus == "embedded":
            await self._opened.enter_async_context(services(self._settings, platform, self._build))
        self._ended: asyncio.Queue[End] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    async def submit(self, tasks: Sequence[Task]) -> None:
        """Publish them as one batch."""
        messages = [message_of(self._make(task), deployment=RUN, event_id=f"bench-{task.id}") for task in tasks]
        for problem in await self._bus.publish(messages):
            if problem:
                raise problem

    async def _read(self) -> None:
        topic = owned(RUN, TaskDone.event_type())
        async for record in self._bus.read([topic], from_beginning=True, follow=True):
            body = json.loads(record.value or b"")
            number, _, _ = body["result"].partition(" ")
            self._ended.put_nowait(End(body["task_id"], int(number), STAGES))

    async def ends(self) -> Sequence[End]:
        """Wait for the next ones."""
        found = [await self._ended.get()]
        while not self._ended.empty():
            found.append(self._ended.get_nowait())
        return found

    async def stop(self) -> None:
        """Close everything."""
        self._reading.cancel()
        await self._opened.aclose()


async def work(build: Build) -> None:
    """Run the services until SIGTERM."""
    configure_logging("warning")
    known, stop = settings(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_platform(known) as platform, services(known, platform, build):
        await stop.wait()


def main(build: Build = hops, make: Callable[[Task], Event] = first) -> None:
    """Be the client or the worker."""
    if sys.argv[1] == "client":
        serve(OwnClient(build, make))
    else:
        run_loop(work(build))


if __name__ == "__main__":
    if VARIANT.endswith("stateless"):
        from benchmarks.stateless import stages

        main(stages)
    else:
        main()
