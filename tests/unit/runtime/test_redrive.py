"""Redrives at the group: back to it alone, once, in order, and never into what has ended."""

import asyncio
import json
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raa_runtime.bus.port import Message, Record
from raa_runtime.deadletters import CorruptLetter, Letter, read_letter
from raa_runtime.errors import PublishRefused
from raa_runtime.redrive import Action, Decision, edited, order_message, read_order
from raa_runtime.scope import TenantScope
from raa_runtime.testing import message_of
from raa_schemas.envelope import Place, decode
from raa_schemas.ids import TenantId
from raa_schemas.plan import PlanRejected
from raa_schemas.redrive import RedriveDone
from tests.unit.runtime.floor import COUNT, Floor, away, until
from tests.unit.runtime.test_delivery import created, headers

pytestmark = pytest.mark.anyio
ME = TenantScope(TenantId("default"))
_numbers = count()


def decided(action: Action = "redrive", **more: Any) -> Decision:
    return Decision(action, "ann", datetime.now(UTC), **more)


async def letters(floor: Floor, number: int) -> list[Letter]:
    return [read_letter(record) for record in await floor.eventually("planner.dlq", number)]


async def order(floor: Floor, letter: Letter, decision: Decision | None = None) -> None:
    aggregate = f"{letter.tenant}/{letter.task}" if letter.task else None
    await floor.publish([order_message(letter, decision or decided(), deployment="", aggregate=aggregate)])


async def outcomes(floor: Floor, number: int) -> list[RedriveDone]:
    found = await floor.eventually("redrive.done", number)
    return [RedriveDone.model_validate_json(record.value or b"") for record in found]


async def goals(service: Any, task: str = "t1") -> list[str]:
    found = await service.store(COUNT).find(ME, f"default/{task}")
    return found.state.goals if found else []


def rejected(task: str = "t1", number: int = 1) -> Message:
    event = PlanRejected(task_id=task, plan_version=1, findings=[])
    return message_of(event, event_id=f"rejected-{task}-{number}")


async def test_a_mended_defect_and_a_redrive_do_what_the_event_would_have_done(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail = lambda _: KeyError("bug")
    async with floor.running() as service:
        await floor.publish([created()])
        [letter] = await letters(floor, 1)
        floor.fail = lambda _: None
        await order(floor, letter)
        [done] = await outcomes(floor, 1)
        assert (done.outcome, done.letter, done.group, done.task_id) == ("handled", letter.id, "planner", "t1")
        assert await goals(service) == ["count"]
        assert len(await floor.records("task.created")) == 1, "no other group sees it again"


async def test_a_second_redrive_changes_nothing(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail = lambda _: KeyError("bug")
    async with floor.running() as service:
        await floor.publish([created()])
        [letter] = await letters(floor, 1)
        floor.fail = lambda _: None
        for _ in range(3):
            await order(floor, letter)
        told = await outcomes(floor, 3)
        assert [done.outcome for done in told] == ["handled"] * 3
        assert await goals(service) == ["count"]
        assert len(await floor.records("task.status")) == 1


async def test_what_dies_again_is_a_new_letter_that_names_the_old_one(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail = lambda _: KeyError("bug")
    async with floor.running():
        await floor.publish([created()])
        [first] = await letters(floor, 1)
        await order(floor, first)
        [_, second] = await letters(floor, 2)
        [failed] = await outcomes(floor, 1)
    assert (second.parent, second.redrives, second.attempts) == (first.id, 1, 6)
    assert (second.fingerprint, second.first_failed) == (first.fingerprint, first.first_failed)
    assert second.record == first.record
    assert (failed.outcome, failed.letter) == ("failed", first.id)
    assert second.id in failed.reason


async def test_an_event_that_died_of_its_deferral_is_handled_once_however_often_it_is_redriven(tmp_path: Path):
    floor = Floor(tmp_path, defer_tries=2)
    floor.fail = away
    async with floor.running() as service:
        await floor.publish([created()])
        [letter] = await letters(floor, 1)
        assert letter.kind == "deferred"
        floor.fail = lambda _: None
        await order(floor, letter)
        await order(floor, letter)
        await outcomes(floor, 2)
        assert await goals(service) == ["count"]


async def test_a_redrive_that_has_to_wait_again_says_so_only_when_it_is_handled(tmp_path: Path):
    floor = Floor(tmp_path, defer_tries=2)
    floor.fail = away
    async with floor.running() as service:
        await floor.publish([created()])
        [first] = await letters(floor, 1)
        await order(floor, first)
        [_, second] = await letters(floor, 2)
        assert (second.kind, second.parent, second.redrives) == ("deferred", first.id, 1)
        floor.fail = lambda goal: away(goal) if len(floor.calls) == 0 else None
        await order(floor, second)
        await until(lambda: _deferred(service))
        floor.fail = lambda _: None
        told = await outcomes(floor, 2)
        assert [(done.letter, done.outcome) for done in told] == [(first.id, "failed"), (second.id, "handled")]
        assert await goals(service) == ["count"]


async def _deferred(service: Any) -> bool:
    found = await service._db.find(ME, "count", "default/t1")
    return bool(found and found["deferred"])


async def test_letters_of_one_task_are_handled_in_the_order_they_were_sent_back(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail = lambda _: KeyError("bug")
    async with floor.running() as service:
        await floor.publish([created("t1", f"g{number}", event_id=f"e{number}") for number in range(6)])
        found = await letters(floor, 6)
        floor.fail = lambda _: None
        for letter in found:
            await order(floor, letter)
        await outcomes(floor, 6)
        assert await goals(service) == [f"g{number}" for number in range(6)]


async def test_what_has_ended_refuses(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.effect, floor.fail_rejected = "once", KeyError("bug")
    async with floor.running():
        await floor.publish([created("t1", "work"), rejected()])
        [letter] = await letters(floor, 1)
        await floor.eventually("task.done", 1)
        floor.fail_rejected = None
        await order(floor, letter)
        [done] = await outcomes(floor, 1)
        assert done.outcome == "refused"
        assert len(floor.calls) == 1


async def test_a_quarantined_aggregate_takes_the_outcome_it_could_not_take_and_goes_on_in_order(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.effect, floor.fail_worked = "once", RuntimeError("bug")
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        [letter] = await letters(floor, 1)
        assert letter.kind == "aggregate"
        await floor.publish([rejected(number=number) for number in range(3)])
        await service.caught_up()
        held = await service._db.find(ME, "count", "default/t1")
        assert held
        assert len(held["deferred"]) == 3
        floor.fail_worked = None
        await order(floor, letter)
        [done] = await floor.eventually("task.done", 1)
        assert json.loads(done.value or b"")["result"] == ["done", "WORK"]
        [told] = await outcomes(floor, 1)
        assert told.outcome == "handled"
        assert len(floor.calls) == 1, "what has an outcome is never done again"
        await until(lambda: _worked_off(service))
        await order(floor, letter)
        assert [done.outcome for done in await outcomes(floor, 2)] == ["handled", "ignored"]


async def _worked_off(service: Any) -> bool:
    found = await service._db.find(ME, "count", "default/t1") or {}
    return not found["quarantined"] and not found["deferred"] and found["state"]["rejected"] == 3


async def test_an_aggregate_that_fails_again_stays_in_quarantine_with_a_new_letter(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail_worked = RuntimeError("bug")
    async with floor.running() as service:
        await floor.publish([created("t1", "work")])
        [first] = await letters(floor, 1)
        await order(floor, first)
        [_, second] = await letters(floor, 2)
        assert (second.kind, second.parent) == ("aggregate", first.id)
        found = await service._db.find(ME, "count", "default/t1")
        assert found
        assert found["quarantined"]
        floor.fail_worked = None
        await order(floor, second)
        await floor.eventually("task.done", 1)


async def test_what_the_bus_refused_is_published_once_it_takes_it(tmp_path: Path):
    floor = Floor(tmp_path)
    publish, refusing = floor.bus.publish, True

    async def refuse(messages: Any) -> Any:
        if refusing and messages[0].topic == "task.status":
            return [PublishRefused("no permission")] * len(messages)
        return await publish(messages)

    async with floor.running():
        floor.bus.publish = refuse
        await floor.publish([created()])
        [letter] = await letters(floor, 1)
        await order(floor, letter)
        [_, second] = await letters(floor, 2)
        assert (letter.kind, second.kind, second.parent) == ("outbox", "outbox", letter.id)
        refusing = False
        await order(floor, second)
        [status] = await floor.eventually("task.status", 1)
        assert headers(status)["ce_id"] == letter.event_id
        assert len(await floor.records("task.stalled")) == 2


async def test_an_edited_record_is_a_new_event_that_cites_the_old_one(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        good = created()
        await floor.publish([Message(good.topic, good.key, b'{"goal": ', good.headers)])
        [letter] = await letters(floor, 1)
        envelope, _ = decode(letter.headers, b'{"goal": "mended"}', Place("task.created", 1, "x", letter.timestamp))
        await order(floor, edited(letter, envelope, b'{"goal": "mended"}'), decided("edit"))
        [status] = await floor.eventually("task.status", 1)
        assert await goals(service) == ["mended"]
        cause = headers(status)["ce_causationid"]
        [sent] = await floor.records("planner.redrive")
        assert (headers(sent)["ce_id"], headers(sent)["ce_causationid"]) == (cause, letter.event_id)


async def test_a_dropped_letter_is_told_and_a_poison_one_stays_silent(tmp_path: Path):
    floor = Floor(tmp_path)
    floor.fail = lambda _: KeyError("bug")
    async with floor.running() as service:
        await floor.publish([created(), Message("task.created", b"", b"{", ())])
        found = await letters(floor, 2)
        for letter in found:
            await order(floor, letter, decided("drop", why="a drill"))
        [dropped] = await outcomes(floor, 1)
        assert (dropped.outcome, dropped.reason) == ("dropped", "a drill")
        await service.caught_up()
        assert len(await floor.records("planner.dlq")) == 2


async def test_a_record_of_ours_that_nobody_can_read_stalls_its_task_and_one_of_a_client_stalls_nobodys(tmp_path: Path):
    floor = Floor(tmp_path)
    broken = (("x", b"\xff"),)
    async with floor.running() as service:
        ours, theirs = rejected("t1"), created("t2")
        await floor.publish([Message(one.topic, one.key, one.value, one.headers + broken) for one in (ours, theirs)])
        await letters(floor, 2)
        await service.caught_up()
        [stalled] = await floor.records("task.stalled")
    assert headers(stalled)["ce_subject"] == "t1"


async def test_junk_on_the_redrive_topic_is_a_dead_letter_itself(tmp_path: Path):
    floor = Floor(tmp_path)
    async with floor.running() as service:
        await floor.publish([Message("planner.redrive", b"k", b"junk", (("dl_kind", b"\xff"),)), created()])
        [letter] = await letters(floor, 1)
        await floor.eventually("task.status", 1)
        await service.caught_up()
    assert (letter.topic, letter.error_class) == ("planner.redrive", "InvalidEventError")


def test_absent_and_empty_are_told_apart_to_the_last_header():
    raw = (("a", None), ("b", b""), ("dl_kind", b"mine"), ("c", b"\xff"))
    record = Record("task.created", 3, 9, datetime.now(UTC), None, None, raw)
    message = _dead(record)
    letter = read_letter(_as_record(message))
    assert letter.record == record
    again, decision = read_order(_as_record(order_message(letter, decided(why="ä"), deployment="", aggregate="x/y")))
    assert (again, decision.why) == (letter, "ä")


def _dead(record: Record) -> Message:
    from raa_runtime.deadletters import DeadLetter

    now = datetime.now(UTC)
    return DeadLetter(
        "record", "planner", record.topic, record.partition, record.offset, record.key, record.value, record.headers,
        ValueError("x"), 1, now, now, record.timestamp,
    ).message("")  # fmt: skip


def _as_record(message: Message) -> Record:
    return Record(message.topic, 0, 0, datetime.now(UTC), message.key, message.value, message.headers)


_RAW = st.one_of(st.none(), st.binary(max_size=8))


@given(_RAW, _RAW, st.lists(st.tuples(st.sampled_from(["a", "dl_headers", "dl_kind", "rd_by", "ce_id"]), _RAW)))
def test_any_record_survives_its_letter_and_its_redrive(key: Any, value: Any, given_headers: Any):
    record = Record("task.created", 0, 0, datetime.now(UTC), key, value, tuple(given_headers))
    letter = read_letter(_as_record(_dead(record)))
    assert letter.record == record
    assert read_order(_as_record(order_message(letter, decided(), deployment="d", aggregate="t/a")))[0] == letter


@pytest.mark.parametrize("missing", ["dl_kind", "dl_group", "dl_attempts", "dl_first_failed"])
def test_a_letter_without_its_facts_is_corrupt_and_says_which(missing: str):
    message = _dead(Record("task.created", 0, 0, datetime.now(UTC), b"k", b"v", ()))
    kept = tuple(item for item in message.headers if item[0] != missing)
    with pytest.raises(CorruptLetter, match=missing):
        read_letter(_as_record(Message(message.topic, message.key, message.value, kept)))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 3), max_size=12))
def test_redriving_any_letters_any_number_of_times_in_any_order_gives_the_same_states(redriven: list[int]):
    asyncio.run(_redrive_all(Path(mkdtemp(prefix="raa-")), redriven))


async def _redrive_all(folder: Path, redriven: list[int]) -> None:
    floor = Floor(folder, defer_tries=1)
    floor.fail = lambda goal: away(goal) if goal == "b" else KeyError("bug")
    async with floor.running() as service:
        tasks = ["t0", "t1", "t2", "t3"]
        await floor.publish([created(task, "b" if number % 2 else "a") for number, task in enumerate(tasks)])
        found = {letter.task: letter for letter in await letters(floor, 4)}
        floor.fail = lambda _: None
        for number in redriven:
            await order(floor, found[tasks[number]])
        await outcomes(floor, len(redriven))
        await service.caught_up()
        expected = [["b" if number % 2 else "a"] if number in redriven else [] for number in range(4)]
        assert [await goals(service, task) for task in tasks] == expected
        assert len(await floor.records("task.status")) == len(set(redriven))
