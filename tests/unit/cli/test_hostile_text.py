"""Text that anybody may have written never acts on the terminal of whoever reads it."""

import pytest
from rich.console import Console

from raa_cli.dlq.decide import Report
from raa_cli.dlq.lists import _print
from raa_cli.dlq.scan import Filed, Standing
from raa_cli.output import print_outcome, print_rows
from raa_cli.replay.compare import Compared
from raa_cli.replay.report import print_replay
from raa_cli.show import print_story
from raa_client.story import Story
from raa_runtime.deadletters import DeadLetter
from raa_schemas.errors import ErrorInfo
from raa_schemas.task import TaskDone
from tests.unit.cli.test_dlq import NOON, pick, record_of

EVIL = "\x1b]0;owned\x07\x9b2J\u202e"
ESCAPED = "\\u001b]0;owned\\u0007\\u009b2J\\u202e"


def harmless(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr().out
    assert not set(printed) & set(EVIL[:1] + "\x07\x9b\u202e"), repr(printed)
    assert ESCAPED in printed
    return printed


def test_how_a_task_ended(capsys: pytest.CaptureFixture[str]):
    error = ErrorInfo(code="tool_error", message=EVIL, hint=EVIL)
    print_outcome(TaskDone(task_id="t", outcome="failed", attempts=1, error=error), None, {})
    harmless(capsys)
    done = TaskDone(task_id="t", outcome="succeeded", attempts=1, lessons_used=["l"])
    print_outcome(done, f"a\tb\n{EVIL}", {"l": EVIL})
    assert "a\tb\n" in harmless(capsys), "lines and columns of a result stay"


def test_a_dead_letter(capsys: pytest.CaptureFixture[str]):
    headers = (("ce_tenant", b"default"), (EVIL, EVIL.encode()))
    dead = DeadLetter("record", "planner", "task.created", 0, 1, EVIL.encode(), f"{{\n{EVIL}".encode(), headers,
                      KeyError(EVIL), 1, NOON, NOON, NOON)  # fmt: skip
    standing = Standing("drop", EVIL, NOON, why=EVIL)
    _print(Filed(record_of(dead.message("")), "planner", dead.letter(""), "", standing))
    assert "{\n" in harmless(capsys)
    Report(as_json=False).tell(pick(), "failed", f"two\nlines {EVIL}", loud=True)
    assert "failed: two lines" in harmless(capsys)


def test_what_an_operator_is_told_of_a_letter_hides_secrets(capsys: pytest.CaptureFixture[str]):
    for as_json in (True, False):
        Report(as_json=as_json).tell(pick(), "failed", "refused by https://ann:open-sesame@model", loud=True)
        assert "open-sesame" not in capsys.readouterr().out


def test_tables_stories_and_replays(capsys: pytest.CaptureFixture[str]):
    print_rows([[EVIL]], ["what"])
    harmless(capsys)
    story = Story("t", "default", EVIL, None, [], "on", None, None, "running", EVIL, [], [], None)
    print_story(story, Console(width=200))
    harmless(capsys)
    print_replay([Compared("t", EVIL, skipped=EVIL)], [])
    harmless(capsys)
