"""Schedules that would lose or repeat something, each by its name; the seeds find their like by chance."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from raa_runtime.bus.port import Message
from raa_runtime.simulated.chance import Weather
from raa_runtime.simulated.process import Process
from raa_runtime.simulated.world import Program, replaced
from raa_runtime.state.codec import Kind
from raa_schemas.plan import Plan, Step
from tests.simulation.family import WAY, Family, Way
from tests.simulation.six import Six
from tests.simulation.stage import Stage, stage

FAMILY = ("planner1", "safety1", "executor1", "reflector1")


def crash(told: Stage, process: Process) -> None:
    """End a process so that nothing it sent arrives any more."""
    told.world.kill(told.program(process.name))
    process.requests_arrive = False


def test_a_crash_between_write_and_publish_then_a_duplicate_before_the_publish():
    async def script(told: Stage) -> None:
        told.after("safety", lambda: told.document("safety", "check", "t1"), partial(crash, told))
        told.submit("t1", "read keyed")
        await told.until(lambda: not told.program("safety1").up)
        assert told.records("plan.ready") == []
        told.again(told.records("plan.proposed")[0])
        told.world.start(told.program("safety1"))

    told = stage(script)
    assert told.ends() == {"t1": "succeeded"}
    assert len(told.said("plan.ready")) == 1


def test_a_rebalance_while_a_key_is_deferred():
    async def script(told: Stage) -> None:
        told.tools.seconds = 6.0
        told.submit("t1", "read read read read")
        await told.until(lambda: told.records("plan.ready"))
        told.house.hiccups = 1.0
        await told.until(lambda: (told.document("planner", "task", "t1") or {"deferred": 0})["deferred"])
        told.world.broker.group("planner").change()
        told.world.kill(told.program("planner1"))
        await told.until(lambda: len(told.records("step.done")) == 4)
        told.house.hiccups = 0.0

    told = stage(script, "planner1", "planner2", "safety1", "executor1", "reflector1")
    counted = [body["steps_done"] for body in told.said("task.status").values() if body["state"] == "running"]
    assert counted == list(range(1, len(counted) + 1))  # the verdict, on a topic of its own, may overtake the last ones
    assert len(counted) >= 2


class WayWithNote(Way):
    """The planner's state of the next release: one more field."""

    note: str = "written by the next release"


def newer(told: Stage, kind: Kind[Any]) -> Program:
    """Add a planner of the next release."""
    assert isinstance(told.house, Family)
    house = Family(told.world, told.tools, way=kind)
    return house.program("planner", 2)


@pytest.mark.parametrize("schema", [1, 2])
def test_old_and_new_writers_on_one_aggregate(schema: int):
    kind = Kind("task", WayWithNote, WAY.tombstone, schema=schema)

    async def script(told: Stage) -> None:
        old, new = told.program("planner1"), newer(told, kind)
        told.tools.seconds = 6.0
        told.submit("t1", "read read read")
        await told.until(lambda: told.records("step.done"))
        told.world.kill(old)
        told.world.start(new)  # goes on with what the old release wrote
        await told.until(lambda: "note" in (told.document("planner", "task", "t1") or {"state": {}})["state"])
        told.world.start(old)  # and the old one with what the new one wrote, or leaves it alone
        told.world.kill(new)
        await asyncio.sleep(20.0)
        found = told.document("planner", "task", "t1")
        assert found is not None
        assert found["state_schema"] == schema
        assert found["tombstone"] or found["state"]["note"] == "written by the next release"
        told.world.start(new)

    told = stage(script)
    assert told.ends() == {"t1": "succeeded"}


def test_a_cancel_that_comes_before_its_task():
    async def script(told: Stage) -> None:
        told.cancel("t1")
        await told.until(lambda: told.document("planner", "task", "t1"))
        told.submit("t1")
        told.submit("t2")

    assert stage(script).ends() == {"t1": "cancelled", "t2": "succeeded"}


def test_a_terminal_step_that_comes_before_its_siblings():
    held: list[Message] = []

    async def script(told: Stage) -> None:
        steps = [Step(id=f"s{number}", tool="far.read", args={"note": str(number)}) for number in range(3)]
        told.submit("t1", plan=Plan(steps=steps, result={"ref": "s2", "path": "/key"}))
        put = told.world.broker._put

        def reorder(message: Message) -> None:
            if message.topic != "step.done":
                put(message)
            elif b'"run_status":"running"' in message.value:
                held.append(message)
            else:
                for one in [message, *held]:
                    put(one)

        with replaced(told.world.broker, "_put", reorder):
            await told.until(lambda: told.records("task.done"))

    told = stage(script, house=Six, violations=True)  # the checker sees the order that was made up
    assert len(held) == 2
    assert told.ends() == {"t1": "succeeded"}
    assert [body["partial_evidence"] for body in told.said("reflection.done").values()] == [False]


@pytest.mark.parametrize("fails", ["alone", "with its batch"])
def test_one_bad_document_in_a_batch(fails: str):
    async def script(told: Stage) -> None:
        assert isinstance(told.house, Family)
        told.chance.weather = Weather(delay=0.5, bad_batch=float(fails != "alone"))
        told.house.before_run = lambda unit: unit.mark("count", 2**70) if unit.task_id == "bad" else None
        for task in ("t1", "bad", "t2"):
            told.submit(task, "read keyed")
        await told.until(lambda: len(told.records("task.done")) == 3)

    told = stage(script)
    assert told.ends() == {"t1": "succeeded", "t2": "succeeded", "bad": "failed"}
    [letter] = told.records("executor.dlq")
    assert b"cannot be stored" in dict(letter.headers)["dl_message"]  # type: ignore[operator]


@pytest.mark.parametrize("effect", ["read", "keyed", "checkable", "once"])
def test_a_zombie_between_intent_and_call(effect: str):
    async def script(told: Stage) -> None:
        def intent() -> bool:
            return bool((told.document("executor", "run", "t1") or {"activities": {}})["activities"])

        told.after("executor", intent, lambda process: told.world.freeze(told.program(process.name)))
        told.submit("t1", effect)
        await told.until(lambda: told.records("step.done"), 60.0)
        await asyncio.sleep(5.0)
        assert [program.name for program in told.world.programs.values()
                if program.process and program.process.state == "frozen"]  # fmt: skip

    told = stage(script, "planner1", "safety1", "executor1", "executor2", "reflector1")
    calls = [call for call in told.tools.ledger if call.phase == "received"]
    if effect == "once":
        assert calls == []  # nobody knew, so nobody started it; the zombie least of all
    else:
        assert {call.epoch for call in calls} == {2}


@pytest.mark.parametrize("topic", ["task.created", "plan.proposed", "plan.ready", "step.done", "reflection.done"])
def test_a_redrive_after_the_end(topic: str):
    before: dict[str, set[str]] = {}

    async def script(told: Stage) -> None:
        told.submit("t1", "keyed once")
        await told.until(lambda: told.records("task.done"))
        await asyncio.sleep(20.0)
        before.update({name: set(told.said(name)) for name in told.world.broker.topics})
        told.again(told.records(topic)[0])
        await asyncio.sleep(5.0)

    told = stage(script)
    assert {name: set(told.said(name)) for name in told.world.broker.topics} == before
    assert len([call for call in told.tools.ledger if call.phase == "received"]) == 2


def test_an_event_that_another_member_deferred_first_is_a_duplicate():
    """The write of a deferral is applied, its reply gets lost, and the event is tried again."""

    async def script(told: Stage) -> None:
        told.house.hiccups = 1.0
        told.chance.weather = replace(Weather(), lost_reply=0.5)
        told.submit("t1", "read")
        await asyncio.sleep(10.0)

    for seed in range(3):
        assert stage(script, seed=seed).world.defects == []
