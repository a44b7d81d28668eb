"""What the commands about dead letters decide before they touch a bus, and how much they hold while they read one."""

import asyncio
import json
import sys
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_cli.__main__ import main
from raa_cli.dlq.decide import Report, decided_before, outcomes, refusal
from raa_cli.dlq.how import How, rate_of
from raa_cli.dlq.lists import causes
from raa_cli.dlq.masking import readable
from raa_cli.dlq.picks import Pick, Picks, in_order
from raa_cli.dlq.scan import Standing, Wanted, letters, standings
from raa_cli.execute import UsageProblem
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Message, Record
from raa_runtime.deadletters import DeadLetter, read_letter
from raa_runtime.folder_lock import FolderLock
from raa_runtime.masking import masked
from raa_runtime.redrive import Action, Decision, order_message
from raa_runtime.settings import ServiceSettings
from raa_runtime.topics import topic_specs
from raa_schemas.envelope import Envelope
from raa_schemas.ids import derived_task_id, origin_key
from raa_schemas.redrive import RedriveDone

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Topics:
    """A bus to read from: records are made when they are asked for."""

    def __init__(self, **made: Any) -> None:
        self.made = {name.replace("_", "."): make for name, make in made.items()}

    async def read(self, topics: Any, *, from_beginning: bool, follow: bool) -> AsyncIterator[Record]:
        for name in topics:
            for record in self.made.get(name, list)():
                yield record


def dead(number: int, value: bytes = b"{}", group: str = "planner", error: str = "a defect") -> DeadLetter:
    headers = (("ce_tenant", b"default"), ("ce_subject", f"t{number}".encode()))
    return DeadLetter("record", group, "step.done", number % 6, number, b"k", value, headers, KeyError(error), 3, NOON,
                      NOON + timedelta(seconds=number), NOON)  # fmt: skip


def record_of(message: Message, offset: int = 0) -> Record:
    return Record(message.topic, 0, offset, NOON, message.key, message.value, message.headers)


def pick(number: int = 0, **given: Any) -> Pick:
    facts: dict[str, Any] = {
        "number": number, "id": f"l{number}", "group": "planner", "kind": "record", "topic": "step.done",
        "partition": 0, "offset": number, "tenant": "default", "task": "t1", "answered": None, "standing": None,
    }  # fmt: skip
    return Pick(**facts | given)


async def read_causes(bus: Any, wanted: Wanted = Wanted()) -> Any:  # noqa: B008  # frozen
    return await causes(letters(bus, "", wanted, await standings(bus, "")))


def test_a_hundred_thousand_letters_are_listed_without_being_held():
    value = b'{"x": "' + b"y" * 10_000 + b'"}'
    number = 20_000  # as many bytes as 100,000 letters of 2 KB

    def dlq() -> Any:
        return (record_of(dead(n, value).message(""), n) for n in range(number))

    tracemalloc.start()
    rows = asyncio.run(read_causes(Topics(planner_dlq=dlq)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(row.count, row.states["open"]) for row in rows] == [(number, number)]
    assert peak < 20_000_000, f"{peak} bytes, of {number * len(value)} that were read"


def test_letters_are_counted_by_their_newest_decision_and_each_once():
    found = [dead(n).letter("") for n in range(4)]

    def orders() -> Any:
        actions: tuple[Action, ...] = ("drop", "redrive", "edit", "redrive")
        for action, letter in zip(actions, found, strict=True):
            yield record_of(order_message(letter, Decision(action, "ann", NOON), deployment="", aggregate=None))

    def outcomes() -> Any:
        event = RedriveDone(task_id="t3", group="planner", letter=found[3].id, outcome="refused")
        envelope = Envelope("e", "raa/planner", "redrive.done", NOON, "t3", "default", event.schema_name())
        yield Record("redrive.done", 0, 0, NOON, b"", event.to_json(), tuple(envelope.headers()))

    def dlq() -> Any:
        yield from (record_of(dead(n).message(""), n) for n in (0, 1, 1, 2, 3, 4))
        yield Record("planner.dlq", 0, 9, NOON, None, b"\xff", (("dl_kind", b"no kind"),))

    bus = Topics(planner_dlq=dlq, planner_redrive=orders, redrive_done=outcomes)
    rows = asyncio.run(read_causes(bus))
    assert [row.error_class for row in rows] == ["KeyError", "corrupt"]
    assert rows[0].states == {"open": 2, "redriven": 1, "edited": 1, "dropped": 1}
    only = asyncio.run(read_causes(bus, Wanted(only_open=True, task="t4")))
    assert [row.count for row in only] == [1]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), unique=True, max_size=30))
def test_letters_of_a_partition_go_back_in_the_order_of_their_offsets_and_others_keep_their_places(
    died: list[tuple[int, int]],
):
    ordered = in_order([pick(n, partition=partition, offset=offset) for n, (partition, offset) in enumerate(died)])
    assert sorted(one.number for one in ordered) == list(range(len(died)))
    assert [one.partition for one in ordered] == [partition for partition, _ in died]
    by_partition = defaultdict(list)
    for one in ordered:
        by_partition[one.partition].append(one.offset)
    assert all(offsets == sorted(offsets) for offsets in by_partition.values())


def test_picked_letters_come_back_as_they_were():
    given_letters = [dead(n, bytes([n, 255, 0])) for n in range(5)]

    def dlq() -> Any:
        return (record_of(letter.message(""), n) for n, letter in enumerate(given_letters))

    async def fill(picks: Picks) -> None:
        await picks.fill(letters(Topics(planner_dlq=dlq), "", Wanted(), {}))  # type: ignore[arg-type]

    with Picks() as picks:
        asyncio.run(fill(picks))
        assert [picks.letter(one) for one in picks.listed] == [
            read_letter(record_of(letter.message(""))) for letter in given_letters
        ]


@pytest.mark.parametrize(("text", "rate"), [("10", 10.0), ("10/s", 10.0), ("600/m", 10.0), ("0.5", 0.5)])
def test_a_rate_is_letters_per_second(text: str, rate: float):
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "ten", "10/q", "inf", "nan"])
def test_what_is_no_rate_is_refused(text: str):
    with pytest.raises(UsageProblem, match="--rate"):
        rate_of(text)


def test_a_drop_names_no_option_that_it_does_not_have():
    given = pick(standing=DECIDED, task="t2")
    told = decided_before(given, How(), forced_by="")
    assert told == ("already redriven", "at 2026-01-02 12:00:00 by ann and handled")
    assert "--again forces" in str(decided_before(given, How()))


def of_tenant(number: int, tenant: str, group: str = "planner") -> DeadLetter:
    headers = (("ce_tenant", tenant.encode()), ("ce_subject", f"t{number}".encode()))
    return replace(dead(number, group=group), headers=headers)


def keep(folder: Path, *died: DeadLetter) -> None:
    """Leave a data folder with these letters."""

    async def publish() -> None:
        bus = EmbeddedBus(folder)
        await bus.start()
        await bus.apply_topics(topic_specs(ServiceSettings.from_env({})))
        assert await bus.publish([letter.message("") for letter in died]) == [None] * len(died)
        await bus.stop()

    with FolderLock(folder):
        asyncio.run(publish())


@pytest.fixture
def dlq(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    def call(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        monkeypatch.setattr(sys, "argv", ["raa", "dlq", *words, "--data", str(tmp_path), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), [json.loads(line) for line in told.out.splitlines()], told.err

    return call


@pytest.mark.parametrize(
    ("choice", "dropped"),
    [
        (["--group", "planner"], {"t0", "t1"}),
        (["--group", "planner", "--tenant", "acme"], {"t1"}),
        (["--task", "t2"], {"t2"}),
        (["--fingerprint", of_tenant(0, "x").fingerprint, "--tenant", "default"], {"t0"}),
    ],
)
def test_a_drop_takes_what_a_redrive_by_the_same_choice_would_send(
    tmp_path: Path, dlq: Any, choice: list[str], dropped: set[str]
):
    keep(tmp_path, of_tenant(0, "default"), of_tenant(1, "acme"), of_tenant(2, "acme", "safety"))
    _, sent, _ = dlq("redrive", *choice, "--dry-run")
    code, gone, _ = dlq("drop", *choice, "--why", "a drill")
    assert {one["task"] for one in sent} == {one["task"] for one in gone} == dropped
    assert (code, {one["result"] for one in gone}) == (0, {"dropped"})
    assert dlq("drop", *choice, "--why", "a drill")[0] == 1, "nothing was left"


def test_a_drop_that_finds_some_decided_before_is_done(tmp_path: Path, dlq: Any):
    keep(tmp_path, of_tenant(0, "default"), of_tenant(1, "acme"))
    assert dlq("drop", "--task", "t0", "--why", "a drill")[0] == 0
    code, told, _ = dlq("drop", "--group", "planner", "--why", "all of it")
    assert (code, {one["task"]: one["result"] for one in told}) == (0, {"t0": "already dropped", "t1": "dropped"})


@pytest.mark.parametrize("words", [["drop", "--why", "x"], ["redrive"]])
@pytest.mark.parametrize("more", [[], ["--tenant", "acme"]])
def test_a_decision_about_everything_is_a_mistake(dlq: Any, words: list[str], more: list[str]):
    code, _, told = dlq(*words, *more)
    assert (code, "--group, --fingerprint, --task or --id" in told) == (2, True)


def test_a_submission_that_died_is_found_by_the_task_it_named_and_by_those_it_was_taken_for():
    body = b'{"task_id": "sum-1", "goal": 7}'
    derived = derived_task_id(origin_key("", "task.created", 4, 9, NOON))
    facts = dead(9, body), dead(1, b"{half of"), dead(2, b"[]"), dead(3, b'{"task_id": 5}')
    died = [replace(each, topic="task.created", partition=4, timestamp=NOON, headers=()) for each in facts]
    died[0] = replace(died[0], answered="task-answered")
    about_a_step = replace(dead(5, body), headers=())

    def dlq() -> Any:
        return (record_of(letter.message(""), n) for n, letter in enumerate([*died, about_a_step]))

    for task in ("sum-1", "task-answered", derived):
        assert [row.count for row in asyncio.run(read_causes(Topics(planner_dlq=dlq), Wanted(task=task)))] == [1]
    assert asyncio.run(read_causes(Topics(planner_dlq=dlq), Wanted(task="5"))) == []


ENDED = frozenset({("default", "t1")})
DECIDED = Standing("redrive", "ann", NOON, outcome="handled")


@pytest.mark.parametrize(
    ("one", "how", "expected"),
    [
        (pick(task="t2"), How(), None),
        (pick(standing=DECIDED, task="t2"), How(), "already redriven"),
        (pick(standing=DECIDED, task="t2"), How(again=True), None),
        (pick(task="t1"), How(), "refused"),
        (pick(task="t1"), How(as_new_task=True), None),
        (pick(task="t2"), How(as_new_task=True), "refused"),
        (pick(task="t1", group="memory"), How(), None),
        (pick(task="t1", kind="outbox", topic="step.ready"), How(), "refused"),
        (pick(task="t1", kind="outbox", topic="task.done"), How(), None),
        (pick(task="t3", answered="t3"), How(), "refused"),
        (pick(task="t3", answered="t3"), How(as_new_task=True), None),
    ],
)
def test_what_is_sent_and_what_is_not(one: Pick, how: How, expected: str | None):
    told = refusal(one, ENDED, how)
    assert (told[0] if told else None) == expected


@pytest.mark.parametrize(("seconds", "failed"), [(0.2, True), (0.0, False)])
def test_letters_that_nobody_settled_in_time_are_a_failure_unless_nobody_waited(
    tmp_path: Path, seconds: float, failed: bool
):
    async def unsettled() -> bool:
        bus = EmbeddedBus(tmp_path)
        await bus.start()
        await bus.apply_topics(topic_specs(ServiceSettings.from_env({})))
        session: Any = SimpleNamespace(offline=False, client=SimpleNamespace(bus=bus))
        try:
            return await outcomes(session, "", {"dl_1": pick()}, NOON, seconds, Report(as_json=False))
        finally:
            await bus.stop()

    assert asyncio.run(unsettled()) is failed


def test_secrets_are_masked_and_what_is_about_them_is_not():
    body = {"api_key": "x", "tokens": 5, "token": "z", "a": [{"Password": "y"}], "t": "Bearer abcdefgh1"}
    assert masked(body) == {"api_key": "***", "tokens": 5, "token": "***", "a": [{"Password": "***"}], "t": "***"}
    assert masked("redis://me:pw@host/0") == "redis://***@host/0"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (None, "(no value)"),
        (b"", "(empty)"),
        (b'{"a":1}', '{\n  "a": 1\n}'),
        (b"{broken", "{broken"),
        (b"\xff\x00", "2 bytes, no text: ff 00"),
    ],
)
def test_a_value_is_shown_as_what_it_is(raw: bytes | None, shown: str):
    assert readable(raw, most_characters=100) == shown
