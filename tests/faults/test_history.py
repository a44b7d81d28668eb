"""The judge finds every violation that is planted, and none in what a bus may do to the records of a good run."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.history import Call, Seen, Verdict, judge

Records = list[Seen]
RECORDED = sorted((Path(__file__).parents[1] / "replay" / "recorded").glob("*.jsonl"))
KEY = "k1"
STEP = {"plan_version": 1, "step": "send", "epoch": 1, "attempt": 1}
OUTCOME = {"outcome": "succeeded", "output_digest": "sha256:1"}


def record(topic: str, offset: int, at: float, body: Mapping[str, Any], event_id: str | None = None) -> Seen:
    headers = {"ce_id": event_id or f"{topic}-{offset}", "ce_subject": "t1", "ce_tenant": "acme", "ce_type": topic}
    return Seen(topic, 0, offset, at, headers, json.dumps({"task_id": "t1"} | dict(body)).encode())


def call(at: float, **other: Any) -> Call:
    plain = Call(at, "received", "keyed", KEY, 1, "executor-1", "acme", "t1", "send", "sha256:a")
    return replace(plain, **other)


def good_run() -> Records:
    """One task with two steps, told in the order in which it happened."""
    mean = STEP | {"step": "mean"}
    return [
        record("task.created", 0, 1.0, {"goal": "send it"}),
        record("task.status", 0, 1.1, {"state": "admitted", "attempt": 0, "steps_done": 0}),
        record("plan.proposed", 0, 1.2, {"plan": {"version": 1}}),
        record("task.status", 1, 1.3, {"state": "running", "attempt": 1, "steps_done": 0}),
        record("step.started", 0, 1.4, STEP | {"tool": "ledger.keyed"}),
        record("step.finished", 0, 1.5, STEP | OUTCOME),
        record("step.done", 0, 1.6, STEP | OUTCOME | {"run_seq": 1, "run_status": "running"}),
        record("task.status", 2, 1.7, {"state": "running", "attempt": 1, "steps_done": 1}),
        record("step.started", 1, 1.8, mean | {"tool": "calculate"}),
        record("step.finished", 1, 1.9, mean | OUTCOME),
        record("step.done", 1, 2.0, mean | OUTCOME | {"run_seq": 2, "run_status": "succeeded"}),
        record("task.done", 0, 2.1, {"outcome": "succeeded"}),
        record("task.status", 3, 2.1, {"state": "ended", "attempt": 1, "steps_done": 2}),
    ]


def without(topic: str, *offsets: int) -> Records:
    return [one for one in good_run() if one.topic != topic or (offsets and one.offset not in offsets)]


def also(topic: str, at: float, body: Mapping[str, Any], event_id: str | None = None) -> Records:
    return [*good_run(), record(topic, 9, at, body, event_id)]


def test_a_good_run_breaks_nothing_and_is_counted() -> None:
    verdict = judge(good_run(), [call(1.45), call(1.46, phase="answered")])
    assert verdict.violations == []
    counted = {name: verdict.figures[name] for name in ("tasks", "ended", "lost", "keyed_effects", "keyed_repeats")}
    assert counted == {"tasks": 1, "ended": 1, "lost": 0, "keyed_effects": 1, "keyed_repeats": 0}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (without("task.done"), "lost: acme/t1"),
        (also("task.done", 2.2, {"outcome": "succeeded"}), "ended twice: acme/t1"),
        (without("task.created"), "out of nothing: acme/t1"),
        (also("step.done", 2.0, {"outcome": "failed"}, "step.done-0"), "one id, 2 contents"),
        (without("step.done", 0), "out of order: acme/t1 v1 has run_seq [2]"),
        (also("step.done", 2.05, STEP | OUTCOME | {"run_seq": 3}), "settled twice: acme/t1 v1/send"),
        (also("step.done", 2.05, STEP | OUTCOME | {"run_seq": 3, "step": "x"}), "went on: acme/t1 v1"),
        (also("task.status", 2.05, {"attempt": 1, "steps_done": 1}), "went back: task.status of acme/t1"),
        (without("step.started", 0), "never started: acme/t1/v1/send"),
        (also("plan.proposed", 3.0, {}), "after the end: plan.proposed"),
        (also("step.started", 3.0, STEP | {"step": "late"}), "after the end: step.started"),
        (also("task.status", 3.0, {"state": "running", "attempt": 2}), "after the end: task.status"),
    ],
)
def test_a_planted_violation_in_the_records_is_found(records: Records, said: str) -> None:
    assert any(said in violation for violation in judge(records, []).violations)


def test_a_step_that_is_done_before_its_start_is_found() -> None:
    moved = [
        replace(one, timestamp=1.65) if one.topic == "step.started" and not one.offset else one for one in good_run()
    ]
    assert judge(moved, []).violations == ["started late: acme/t1/v1/send was done before its step.started"]


def test_a_late_outcome_of_a_fenced_epoch_is_found() -> None:
    late = STEP | {"epoch": 1, "outcome": "failed", "output_digest": None}
    records = [replace(one, value=_with(one, epoch=2)) if one.topic == "step.finished" else one for one in good_run()]
    found = judge([*records, record("step.finished", 9, 2.05, late)], []).violations
    assert found == ["fenced: step.finished of acme/t1/v1/send with epoch 1 after 2"]


def _with(one: Seen, **other: Any) -> bytes:
    return json.dumps(json.loads(one.value or b"{}") | other).encode()


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([call(1.45), call(1.46, key="k2")], "keyed effect twice: acme/t1/send with 2 keys for 1 plan versions"),
        ([call(1.45, effect="once"), call(1.5, effect="once")], "once effect twice: acme/t1/send"),
        ([call(1.45, effect="checkable"), call(1.5, effect="checkable")], "checkable effect twice"),
        ([call(1.45, step="other")], "called without a start: acme/t1/other"),
        ([call(1.45, step="v2/send")], "called without a start: acme/t1/v2/send"),
    ],
)
def test_a_planted_violation_in_the_ledger_is_found(calls: list[Call], said: str) -> None:
    assert any(said in violation for violation in judge(good_run(), calls).violations)


def test_the_same_key_again_is_one_effect_and_a_read_may_repeat() -> None:
    calls = [call(1.45), call(1.5, epoch=2), call(1.46, effect="read", key="r"), call(1.47, effect="read", key="r")]
    verdict = judge(good_run(), calls)
    assert verdict.violations == []
    assert (verdict.figures["keyed_effects"], verdict.figures["keyed_repeats"]) == (1, 1)


def test_a_call_of_an_earlier_owner_after_a_later_one_is_counted() -> None:
    assert judge(good_run(), [call(1.45, epoch=2), call(1.5, epoch=1)]).figures["late_calls"] == 1


def test_what_a_person_said_did_not_happen_may_start_again() -> None:
    said = also("action.decided", 1.48, STEP | {"decision": "not_happened"})
    twice = [call(1.45, effect="once"), call(1.5, effect="once", epoch=2)]
    assert judge(said, twice).violations == []
    assert judge(said, [*twice, call(1.55, effect="once", epoch=3)]).violations != []


def test_a_task_that_says_what_it_waits_for_is_not_lost() -> None:
    waits = {"state": "waiting_approval", "attempt": 1, "steps_done": 1, "waiting_for": "a person"}
    until = [("1970-01-01T00:01:00+00:00", 0, 1), ("1970-01-01T00:00:01+00:00", 1, 0)]
    for moment, lost, waiting in until:
        records = [one for one in without("task.done") if (one.topic, one.offset) != ("task.status", 3)]
        verdict = judge([*records, record("task.status", 9, 2.2, waits | {"waiting_until": moment})], [])
        assert (verdict.figures["lost"], verdict.figures["waiting"]) == (lost, waiting)


def test_a_submission_that_the_planner_refused_is_not_accepted() -> None:
    origin = {"dl_kind": "record", "dl_group": "planner", "dl_topic": "task.created"}
    place = {"dl_partition": "0", "dl_offset": "0"}
    letter = Seen("planner.dlq", 0, 0, 1.0, origin | place, b"{")
    verdict = judge([good_run()[0], letter], [])
    assert (verdict.violations, verdict.figures["refused"], verdict.figures["tasks"]) == ([], 1, 0)


def test_a_submission_that_was_refused_may_end_as_rejected() -> None:
    created, *rest = [one for one in good_run() if one.topic in {"task.created", "task.done"}]
    letter = Seen("planner.dlq", 0, 0, 1.0, {"dl_topic": "task.created"}, b"{")
    verdict = judge([replace(created, value=b'{"goal": 7}'), letter, *rest], [])
    assert (verdict.violations, verdict.figures["tasks"]) == ([], 0)


def test_a_refused_record_that_names_nothing_readable_may_end_as_rejected() -> None:
    letter = Seen("planner.dlq", 0, 0, 1.0, {"dl_kind": "record", "dl_group": "planner"}, b"")
    rejected = record("task.done", 0, 2.0, {"outcome": "rejected"})
    assert judge([letter, rejected], []).violations == []
    assert judge([rejected], []).violations != []


def test_a_deployment_sees_its_own_topics() -> None:
    mine = [replace(one, topic=f"blue.{one.topic}") for one in good_run()]
    assert judge(mine, [], deployment="blue").figures["ended"] == 1
    assert judge(mine, []).figures["tasks"] == 0


@pytest.mark.parametrize("log", RECORDED, ids=lambda log: log.stem)
def test_a_recorded_log_of_a_release_breaks_nothing(log: Path) -> None:
    verdict = judge(recorded(log), [])
    assert verdict.violations == []
    assert verdict.figures["tasks"] == verdict.figures["ended"] > 0
    assert verdict.figures["unreadable"] == 0


def recorded(log: Path) -> Records:
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        Seen(topic, at, offset, when, dict(headers), value.encode())
        for topic, at, offset, when, _, value, headers in rows
    ]


@given(seed=st.integers(0, 2**32), again=st.lists(st.integers(0, 12), max_size=12))
def test_what_a_bus_may_do_is_no_violation(seed: int, again: list[int]) -> None:
    """Events come again in any number behind their first, and whoever reads all topics meets them in any order."""
    chance, records = random.Random(seed), good_run()
    repeated = [replace(records[index], offset=100 + number, timestamp=9.0) for number, index in enumerate(again)]
    everything = records + repeated
    chance.shuffle(everything)
    verdict = judge(everything, [call(1.45)])
    assert verdict.violations == []
    assert verdict.figures["told_again"] == len(again)


@given(seed=st.integers(0, 2**32))
def test_tasks_do_not_count_against_each_other(seed: int) -> None:
    """Records of several tasks share partitions in any interleaving that keeps the order of each."""
    chance = random.Random(seed)
    waiting = [[_of_task(one, f"t{number}") for one in good_run()] for number in range(3)]
    offsets: dict[str, int] = {}
    mixed = []
    while lines := [line for line in waiting if line]:
        one = chance.choice(lines).pop(0)
        offsets[one.topic] = offsets.get(one.topic, -1) + 1
        mixed.append(replace(one, offset=offsets[one.topic]))
    assert judge(mixed, []).violations == []


def _of_task(one: Seen, task: str) -> Seen:
    headers = dict(one.headers) | {"ce_subject": task, "ce_id": f"{task}-{one.headers['ce_id']}"}
    return replace(one, headers=headers, value=_with(one, task_id=task))


@given(planted=st.sampled_from(["lost", "twice"]), tasks=st.integers(1, 5), which=st.integers(0, 4))
def test_one_bad_task_among_many_is_found(planted: str, tasks: int, which: int) -> None:
    bad = f"t{which % tasks}"
    records = []
    for number in range(tasks):
        own = [_of_task(one, f"t{number}") for one in good_run()]
        records += [replace(one, partition=number) for one in own]
    ends = [one for one in records if one.topic == "task.done" and one.headers["ce_subject"] == bad]
    if planted == "lost":
        records = [one for one in records if one not in ends]
    else:
        records += [replace(one, offset=50, headers=dict(one.headers) | {"ce_id": "other"}) for one in ends]
    verdict: Verdict = judge(records, [])
    assert len(verdict.violations) == 1
    assert bad in verdict.violations[0]
