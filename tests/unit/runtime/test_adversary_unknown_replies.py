"""A write that was stored although its reply got lost: whatever follows a stored write follows it too, once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.service import Service
from raa_runtime.state.codec import Kind
from raa_runtime.state.port import Write
from raa_runtime.unit import Unit
from raa_schemas.event import Event
from tests.unit.runtime.floor import Floor, until
from tests.unit.runtime.test_aggregates_in_trouble import rewrite
from tests.unit.runtime.test_delivery import created
from tests.unit.runtime.test_redrive import rejected

pytestmark = pytest.mark.anyio


def lose_reply(service: Service, which: Any, *, meanwhile: Any = None) -> list[Write]:
    """Let the store lose its reply to the first write of this sort."""
    commit, lost = service._db.commit, list[Write]()

    async def answer_lost(writes: Sequence[Write]) -> Any:
        verdicts = await commit(writes)
        if not lost and (found := [write for write in writes if which(write)]):
            lost.extend(found)
            if meanwhile:
                await meanwhile()
            raise DependencyUnavailable("the reply got lost")
        return verdicts

    service._db.commit = answer_lost  # type: ignore[method-assign]
    return lost


def watch(service: Service) -> list[tuple[str, list[str]]]:
    """Note what observers are told: the aggregate, and what it published."""
    told: list[tuple[str, list[str]]] = []

    def observe(_: Kind[Any], unit: Unit[Any]) -> None:
        told.append((unit.id, [event.event_type() for event in _events(unit)]))

    service._dispatcher.work.observers = (*service._dispatcher.work.observers, observe)
    return told


def _events(unit: Unit[Any]) -> list[Event]:
    return unit.published


async def test_what_it_stopped_stops_at_once(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.seconds = 60.0
    ended = asyncio.Event()

    async def work(_: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    def close(unit: Unit[Any], _: Any) -> None:
        unit.close()

    floor.work, floor.on_rejected = work, close  # type: ignore[method-assign,assignment]
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        await floor.eventually("task.status", 1)
        await service.caught_up()
        lost = lose_reply(service, lambda write: write.document["closed"])
        await floor.publish([rejected()])
        async with asyncio.timeout(5):
            await ended.wait()
        assert lost


@pytest.mark.parametrize("tasks", [["t1"], ["t1", "t2", "t3"]])
async def test_observers_hear_of_it_once(tmp_path: Path, tasks: list[str]):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        told = watch(service)
        lost = lose_reply(service, lambda write: write.document["_id"] == "default/t1")
        await floor.publish([created(task) for task in tasks])
        await floor.eventually("task.status", len(tasks))
        await service.caught_up()
        assert lost
        assert sorted(told) == [(f"default/{task}", ["task.status"]) for task in tasks]


async def test_what_another_process_wrote_over_is_not_taken_for_it(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        told = watch(service)
        lose_reply(service, lambda write: write.document["_id"] == "default/t1", meanwhile=lambda: rewrite(service))
        await floor.publish([created()])
        await service.caught_up()
        assert told == []
        assert service._dispatcher.work._unknown == {}
        await until(lambda: _published(floor))


async def _published(floor: Floor) -> bool:
    return len(await floor.records("task.status")) == 1
