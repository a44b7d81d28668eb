"""Duplicates, crashes between write and publish, poison, deferral: what one record may cost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus.port import Message
from raa_runtime.errors import PublishRefused
from raa_runtime.scope import TenantScope
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_schemas.ids import TenantId
from raa_schemas.plan import PlanRejected
from raa_schemas.task import TaskCreated
from tests.unit.runtime.floor import COUNT, Floor, away

ME = TenantScope(TenantId("default"))


def created(task: str = "t1", goal: str = "count", event_id: str | None = None) -> Message:
    return message_of(TaskCreated(task_id=task, goal=goal), event_id=event_id)


def headers(record: Any) -> dict[str, str]:
    return {name: raw.decode() for name, raw in record.headers}


@pytest.mark.anyio
async def test_second_delivery_of_an_event_changes_and_publishes_nothing(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([created(), created(), created("t2")])
        await floor.eventually("task.status", 2)
        await service.caught_up()
        aggregate = await service.store(COUNT).find(ME, "default/t1")
        assert aggregate is not None
        assert aggregate.state.goals == ["count"]
        assert len(await floor.records("task.status")) == 2


@pytest.mark.anyio
async def test_the_same_event_id_with_another_body_is_a_dead_letter(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    async with floor.running():
        await floor.publish([created(event_id="e1"), created(goal="other", event_id="e1")])
        (letter,) = await floor.eventually("planner.dlq", 1)
    assert "came again with another content" in headers(letter)["dl_message"]
    assert headers(letter)["dl_topic"] == "task.created"


@pytest.mark.anyio
async def test_a_poison_record_costs_one_dead_letter_and_nobody_else_waits(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    good = created("t9")
    poison = [
        Message("task.created", good.key, b"{broken", ()),
        Message("task.created", good.key, b"[1]", ()),
        Message("task.created", good.key, b"{}", ()),
        Message("task.created", good.key, good.value, (*good.headers, ("x", b"\xff\xfe"))),
        Message(
            "task.created",
            good.key,
            good.value,
            tuple((k, b"task.created.v9.json" if k == "ce_dataschema" else v) for k, v in good.headers),
        ),
        Message("task.created", good.key, b'{"goal": "' + b"x" * 1_048_576 + b'"}', ()),
    ]
    async with floor.running() as service:
        await floor.publish([*poison, good])
        letters = await floor.eventually("planner.dlq", len(poison))
        await floor.eventually("task.status", 1)
        await service.caught_up()
        assert len(await floor.records("planner.dlq")) == len(poison)
    assert sorted(record.value or b"" for record in letters) == sorted(message.value for message in poison)
    assert all(
        len(headers(record)["dl_fingerprint"]) == 16
        for record in letters
        if b"\xff\xfe" not in [raw for _, raw in record.headers]
    )


@pytest.mark.anyio
async def test_a_defect_in_a_handler_ends_as_a_dead_letter_that_stalls_the_task(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    tries: list[str] = []

    def defect(goal: str) -> Exception | None:
        tries.append(goal)
        return KeyError("bug") if goal == "bad" else None

    floor.fail = defect
    async with floor.running():
        await floor.publish([created("t1", "bad"), created("t2", "good")])
        (letter,) = await floor.eventually("planner.dlq", 1)
        (stalled,) = await floor.eventually("task.stalled", 1)
    assert headers(letter)["dl_error_class"] == "KeyError"
    assert tries.count("bad") == 1 + 3  # once with the others of its tick, then alone
    assert headers(stalled)["ce_subject"] == "t1"


@pytest.mark.anyio
async def test_events_behind_a_deferred_one_keep_their_order(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    broken = True
    floor.fail = lambda goal: away(goal) if broken else None
    async with floor.running() as service:
        await floor.publish([created()])
        await floor.publish([message_of(PlanRejected(task_id="t1", plan_version=1, findings=[]))])
        await service.caught_up()
        waiting = await service.store(COUNT).find(ME, "default/t1")
        assert waiting is not None
        assert [item.topic for item in waiting.deferred] == ["task.created", "plan.rejected"]
        assert waiting.wake_at is not None
        broken = False
        first, second = await floor.eventually("task.status", 2)
    assert b"planning" in (first.value or b"")
    assert b"running" in (second.value or b"")


@pytest.mark.anyio
async def test_an_event_that_never_succeeds_ends_as_a_dead_letter_of_its_deferral(tmp_path: Path) -> None:
    floor = Floor(tmp_path, defer_tries=2)
    floor.fail = away
    async with floor.running():
        await floor.publish([created()])
        (letter,) = await floor.eventually("planner.dlq", 1)
        await floor.eventually("task.stalled", 1)
    assert headers(letter)["dl_kind"] == "deferred"
    assert headers(letter)["dl_attempts"] == "2"
    assert letter.value == created().value


@pytest.mark.anyio
async def test_a_crash_between_write_and_publish_is_repaired_by_the_redelivery(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    hold = asyncio.Event()
    publish = floor.bus.publish

    async def hanging(messages: Any) -> Any:
        if any(message.topic == "task.status" for message in messages):
            hold.set()
            await asyncio.Event().wait()
        return await publish(messages)

    await floor.bus.start()
    service = floor.build()
    await service.start()
    await floor.publish([created()])
    floor.bus.publish = hanging
    await asyncio.wait_for(hold.wait(), 5)
    await crash(service)
    assert await floor.records("task.status") == []
    await floor.bus.stop()

    after = Floor(tmp_path)
    async with after.running():
        (status,) = await after.eventually("task.status", 1)
    assert headers(status)["ce_subject"] == "t1"


@pytest.mark.anyio
async def test_what_the_bus_refuses_for_good_becomes_a_dead_letter_and_counts_as_published(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    publish = floor.bus.publish

    async def refusing(messages: Any) -> Any:
        if messages[0].topic == "task.status":
            return [PublishRefused("no permission")] * len(messages)
        return await publish(messages)

    async with floor.running() as service:
        floor.bus.publish = refusing
        await floor.publish([created()])
        (letter,) = await floor.eventually("planner.dlq", 1)
        await service.caught_up()
    assert headers(letter)["dl_kind"] == "outbox"
    assert headers(letter)["dl_topic"] == "task.status"


@pytest.mark.anyio
async def test_an_event_older_than_the_horizon_creates_nothing(tmp_path: Path) -> None:
    floor = Floor(tmp_path, horizon_seconds=0.001)
    await floor.bus.start()
    await floor.bus.apply_topics(topic_specs(floor.settings))
    await floor.publish([created()])
    await asyncio.sleep(0.01)
    await floor.bus.stop()
    floor = Floor(tmp_path, horizon_seconds=0.001)
    async with floor.running():
        (letter,) = await floor.eventually("planner.dlq", 1)
    assert "too_old" in headers(letter)["dl_message"]


@pytest.mark.anyio
async def test_labels_and_correlation_come_back_on_every_event(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    async with floor.running():
        task = TaskCreated(task_id="t1", goal="count", correlation_id="c-7", labels={"team": "x"})
        await floor.publish([message_of(task)])
        (status,) = await floor.eventually("task.status", 1)
    assert b'"correlation_id":"c-7"' in (status.value or b"")
    assert b'"labels":{"team":"x"}' in (status.value or b"")


async def crash(service: Any) -> None:
    """End a service as kill -9 would: nothing is written, committed or released any more."""
    service._activities._deliver = lambda *_: None
    for task in [*service._loops.tasks, *service._lanes._tasks, *service._activities._tasks.values()]:
        task.cancel()
    await asyncio.sleep(0)
    await service.http.stop()
