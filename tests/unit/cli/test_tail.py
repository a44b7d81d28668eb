"""The command `raa topics tail`: several topics, one task or tenant, and bytes that never act on a terminal."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raa_cli.output import print_json
from raa_cli.telling import printable
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Message
from raa_runtime.folder_lock import FolderLock
from raa_runtime.settings import ServiceSettings
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_schemas.cancel import CancelRequested
from raa_schemas.task import TaskCreated
from tests.unit.cli.test_command import Called, _process, raa, stack  # noqa: F401  # fixtures

Raa = Callable[..., Called]
EVIL = "\x1b]0;owned\x07 \u202egoal\x9b2J"


@pytest.fixture
def told(data_folder: Path) -> Path:
    """A data folder with events of two tasks and two tenants, a goal that attacks terminals, and a broken record."""

    async def publish() -> None:
        bus = EmbeddedBus(data_folder / "d")
        await bus.start()
        await bus.apply_topics(topic_specs(ServiceSettings()))
        messages = [
            message_of(TaskCreated(task_id="t1", goal=EVIL)),
            message_of(TaskCreated(task_id="t2", goal="two")),
            message_of(TaskCreated(task_id="t1", goal="another's"), tenant="acme"),
            message_of(CancelRequested(task_id="t1", requested_by="client", reason="late")),
            Message("task.created", b"\x1b[2J", b"\x00\xff{no json \x1b[31m", (("ce_subject", b"t9"),)),
        ]
        assert await bus.publish(messages) == [None] * len(messages)
        await bus.stop()

    with FolderLock(data_folder / "d"):
        asyncio.run(publish())
    return data_folder / "d"


def _tail(raa: Raa, *more: object) -> Called:  # noqa: F811
    return raa("topics", "tail", *more, "--from-beginning", "--no-follow")


def test_several_topics_are_shown_with_their_attributes_and_values(raa: Raa, told: Path):  # noqa: F811
    said = _tail(raa, "task.created", "cancel.requested")
    assert said.code == 0
    assert said.out.count("\n    {") == 4
    assert "default/t2  id=test-task.created-t2-None  from=test" in said.out
    assert '"reason": "late"' in said.out


def test_only_what_is_asked_for_is_shown(raa: Raa, told: Path):  # noqa: F811
    of_task = _tail(raa, "task.created", "cancel.requested", "--task", "t1", "--json").lines
    assert [(event["type"], event["tenant"]) for event in of_task if event["tenant"] == "acme"] == [
        ("task.created", "acme")
    ]
    assert len(of_task) == 3
    of_tenant = _tail(raa, "task.created", "--tenant", "acme", "--json").lines
    assert [event["data"]["goal"] for event in of_tenant] == ["another's"]
    (broken,) = _tail(raa, "task.created", "--task", "t9", "--json").lines
    assert broken["value"].startswith("\x00\\xff{no json")


def test_nothing_that_comes_from_the_bus_acts_on_the_terminal(raa: Raa, told: Path):  # noqa: F811
    for said in (_tail(raa, "task.created"), _tail(raa, "task.created", "--json")):
        assert not {"\x1b", "\x07", "\x00", "\x9b", "\u202e"} & set(said.out)
    goals = [event.get("data", {}).get("goal") for event in _tail(raa, "task.created", "--json").lines]
    assert EVIL in goals, "programs get what was written"


def test_an_unknown_topic_is_named_with_the_nearest(raa: Raa, told: Path):  # noqa: F811
    refused = _tail(raa, "task.create")
    assert refused.code == 2
    assert "there is no topic 'task.create'; did you mean task.created?" in refused.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tailing_ends_quietly_when_it_is_interrupted(stack: Any, data_folder: Path, number: int):  # noqa: F811
    with _process(
        "topics", "tail", "task.done", "task.status", "--from-beginning", "--data", data_folder / "d"
    ) as tail:
        with _process("run", "what is 6 * 7", "--data", data_folder / "d") as run:
            assert run.wait(timeout=30) == 0
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert "/task-" in tail.stdout.readline()
        tail.send_signal(number)
        assert tail.wait(timeout=10) in {130, -signal.SIGTERM}
        assert tail.stderr.read() == ""


def test_tailing_ends_quietly_when_its_reader_is_gone(stack: Any, data_folder: Path):  # noqa: F811
    with _process("topics", "tail", "task.done", "--from-beginning", "--data", data_folder / "d") as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        tail.stdout.close()
        with _process("run", "what is 6 * 7", "--data", data_folder / "d") as run:
            assert run.wait(timeout=30) == 0
        assert tail.wait(timeout=10) == 1
        assert tail.stderr.read() == ""


def test_what_is_escaped_is_still_the_same_json(capsys: pytest.CaptureFixture[str]):
    value = {"text": EVIL + "\u2028\ud800é…", "more": [1, "\x7f"]}
    print_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert "é…" in said
    assert printable("a\tb\nc") == "a\\u0009b\\u000ac"
