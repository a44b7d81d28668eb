"""A simulated world for one schedule: calm weather, and a script that lets exactly one thing go wrong."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from raa_runtime.bus.port import Record
from raa_runtime.simulated.process import Process
from raa_runtime.simulated.world import Program, World
from raa_schemas.cancel import CancelRequested
from raa_schemas.event import Event
from raa_schemas.task import TaskCreated
from tests.simulation.family import Family
from tests.simulation.messages import message
from tests.simulation.rest import documents
from tests.simulation.scenario import FOLDER, Play
from tests.simulation.six import Six, without_http


class Stage(Play):
    """One world, its services by name, and what a script does with them."""

    violations: list[str]

    def program(self, name: str) -> Program:
        return self.world.programs[name]

    def append(self, event: Event, event_id: str) -> None:
        self.world.broker.append([message(event, event_id)])

    def submit(self, task: str, goal: str = "read", **more: Any) -> None:
        self.append(TaskCreated(task_id=task, goal=goal, **more), f"created-{task}")

    def cancel(self, task: str) -> None:
        self.append(CancelRequested(task_id=task), f"cancel-{task}")

    def records(self, topic: str) -> list[Record]:
        return [record for log in self.world.broker.topics[topic] for record in log]

    def said(self, topic: str) -> dict[str, dict[str, Any]]:
        """Give the bodies on a topic by event id."""
        return {dict(record.headers)["ce_id"].decode(): json.loads(record.value or b"")  # type: ignore[union-attr]
                for record in self.records(topic)}  # fmt: skip

    def ends(self) -> dict[str, str]:
        """Give how each task ended, by its one task.done."""
        ends = list(self.said("task.done").values())
        assert len({end["task_id"] for end in ends}) == len(ends), ends
        return {end["task_id"]: end["outcome"] for end in ends}

    def again(self, record: Record) -> None:
        """Put a record on its topic once more, as a redrive or a careless producer does."""
        log = self.world.broker.topics[record.topic][record.partition]
        log.append(Record(record.topic, record.partition, len(log), record.timestamp, record.key, record.value,
                          record.headers))  # fmt: skip
        self.world.broker.tell(record.topic)

    def document(self, service: str, kind: str, task: str) -> dict[str, Any] | None:
        found = [one for where, what, one in documents(self.world)
                 if (where, what, one["_id"]) == (service, kind, f"default/{task}")]  # fmt: skip
        return found[0] if found else None

    async def until(self, holds: Callable[[], Any], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110  # what is waited for lies in stores and on topics
                await asyncio.sleep(0.05)

    def after(self, service: str, happens: Callable[[], object], act: Callable[[Process], None]) -> None:
        """Act once, right when a write of a service has made something true, before its reply leaves."""
        done = False
        store = self.world.store(service)

        def watch() -> None:
            nonlocal done
            if not done and store.asking is not None and happens():
                done = True
                act(store.asking)

        store.watchers.append(watch)


def stage(
    script: Callable[[Stage], Awaitable[None]],
    *programs: str,
    house: type[Family | Six] = Family,
    seed: int = 7,
    violations: bool = False,
) -> Stage:
    """Play a script in a world of these programs (`planner1`), then wait until it is quiet; returns what was left."""
    with World(seed, folder=FOLDER) as world, without_http(world):
        told = Stage(world, house)
        for name in programs or [f"{service}1" for service in told.house.services]:
            told.house.program(name[:-1], int(name[-1]))

        async def play() -> list[str]:
            for program in world.programs.values():
                world.start(program)
            await asyncio.sleep(1.0)
            await script(told)
            told.calm()
            return await told.settle()

        told.violations = world.run(play())
        assert violations or not told.violations, told.violations
        return told
