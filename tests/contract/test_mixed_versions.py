"""Two releases at once on one aggregate: the older one loses nothing that the newer one wrote, on every store."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from raa_runtime.clock import SystemClock
from raa_runtime.errors import NewerState
from raa_runtime.scope import TenantScope
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.state.port import DocumentStore
from raa_runtime.unit import Unit
from raa_runtime.unit_of_work import Address, UnitOfWork
from raa_schemas.event import Event, Part
from raa_schemas.ids import TenantId
from tests.contract.test_store import store
from tests.unit.runtime.floor import _quiet

__all__ = ["store"]
pytestmark = pytest.mark.anyio
ACME = TenantScope(TenantId("acme"))


class Wheel(Part):
    size: int = 0


class NewWheel(Wheel):
    colour: str = "black"


class Axle(State):
    wheel: Wheel = Wheel()


class NewAxle(State):
    wheel: NewWheel = NewWheel()
    load: int = 0


class Cart(State):
    count: int = 0
    axle: Axle = Field(default_factory=Axle)
    wheels: list[Wheel] = Field(default_factory=list)
    by_name: dict[str, Wheel] = Field(default_factory=dict)


class NewCart(State):
    count: int = 0
    axle: NewAxle = Field(default_factory=NewAxle)
    wheels: list[NewWheel] = Field(default_factory=list)
    by_name: dict[str, NewWheel] = Field(default_factory=dict)
    horse: str = ""


OLD, NEW, MAJOR = Kind("task", Cart), Kind("task", NewCart), Kind("task", NewCart, schema=2)


class Deaf:
    async def publish(self, messages: Any, **_: Any) -> list[None]:
        return [None for _ in messages]


def process(store: DocumentStore, name: str) -> UnitOfWork:
    bus: Any = Deaf()
    return UnitOfWork(
        "planner", "", f"{name}:1:2", store, bus, SystemClock(), _quiet(""), lambda *_: None, lambda *_: None
    )


@pytest.fixture
async def processes(store: DocumentStore) -> tuple[UnitOfWork, UnitOfWork]:
    return process(store, "old"), process(store, "new")


async def decide(work: UnitOfWork, kind: Kind[Any], change: Any) -> Unit[Any]:
    return await work.run(Address(kind, "acme/t1", "t1", 0), change, "command")


def furnish(unit: Unit[Any]) -> None:
    unit.state.horse = "Rosinante"
    unit.state.axle = NewAxle(wheel=NewWheel(size=1, colour="red"), load=7)
    unit.state.wheels = [NewWheel(size=2, colour="blue"), NewWheel(size=3, colour="green")]
    unit.state.by_name = {"left": NewWheel(size=4, colour="white")}


def count(unit: Unit[Any]) -> None:
    unit.state.count += 1


async def test_old_and_new_processes_take_turns_and_no_field_is_lost_at_any_depth(processes: Any) -> None:
    old, new = processes
    await decide(old, OLD, count)
    await decide(new, NEW, furnish)
    for _ in range(3):
        await decide(old, OLD, count)
        await decide(new, NEW, count)
    state = (await decide(new, NEW, count)).state
    assert (state.count, state.horse, state.axle.load) == (8, "Rosinante", 7)
    assert state.axle.wheel == NewWheel(size=1, colour="red")
    assert [wheel.colour for wheel in state.wheels] == ["blue", "green"]
    assert state.by_name["left"].colour == "white"


async def test_what_an_old_process_changes_in_a_part_keeps_the_rest_of_it(processes: Any) -> None:
    old, new = processes
    await decide(new, NEW, furnish)

    def grow(unit: Unit[Any]) -> None:
        unit.state.wheels[0] = unit.state.wheels[0].model_copy(update={"size": 20})

    await decide(old, OLD, grow)
    state = (await decide(new, NEW, count)).state
    assert state.wheels[0] == NewWheel(size=20, colour="blue")


async def test_a_new_process_reads_what_an_old_one_wrote(processes: Any) -> None:
    old, new = processes
    await decide(old, OLD, lambda unit: setattr(unit.state, "wheels", [Wheel(size=9)]))
    state = (await decide(new, NEW, count)).state
    assert (state.wheels, state.horse) == ([NewWheel(size=9)], "")


async def test_a_new_major_is_left_alone_by_the_old_and_taken_over_by_the_new(processes: Any) -> None:
    old, new = processes
    await decide(old, OLD, count)
    await decide(new, MAJOR, furnish)
    with pytest.raises(NewerState):
        await decide(old, OLD, count)
    unit = await old.run(Address(OLD, "acme/t1", "t1", 0), lambda unit: unit.set_timer("x", NOON), "event", None,
                         header_only=True)  # fmt: skip
    assert unit.aggregate.version == 3
    state = (await decide(new, MAJOR, count)).state
    assert (state.count, state.horse, state.wheels[1].colour) == (2, "Rosinante", "green")


NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def test_a_part_read_by_itself_and_an_event_leave_out_what_they_do_not_know(tmp_path: Path) -> None:
    assert Wheel.model_validate({"size": 1, "colour": "red"}).model_dump() == {"size": 1}
    assert Wheel.model_validate_json('{"size": 1, "colour": "red"}').model_dump() == {"size": 1}

    class CartMoved(Event):
        wheel: Wheel = Wheel()

    read = CartMoved.model_validate_json('{"task_id": "t1", "wheel": {"size": 1, "colour": "red"}, "more": 1}')
    assert b"colour" not in read.to_json()
    assert b"more" not in read.to_json()
