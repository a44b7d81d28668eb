"""The command line itself, as a person or a program calls it: output, exit codes, one clear line for each failure."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raa_cli.__main__ import main
from tests.source_tree import ROOT
from tests.waiting import wait_until

TOOLS = ROOT / "examples" / "tools" / "my_tools.py"
NOTICE = ROOT / "examples" / "notice-plan.json"
RESULT_FIELDS = ["task_id", "state", "result", "attempts", "checked", "lessons_used", "lessons_learned", "artifacts",
                 "error", "cost_microusd"]  # fmt: skip


class Called(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def raa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_folder: Path):
    def call(*arguments: object, data: bool = True) -> Called:
        words = ["raa", *map(str, arguments), *(["--data", str(data_folder / "d")] if data else [])]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Called(int(ended.value.code or 0), told.out, told.err)

    return call


def _process(*arguments: object) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAA_", "OPENAI_"))}
    return subprocess.Popen([sys.executable, "-m", "raa_cli", *map(str, arguments)], text=True, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)  # fmt: skip


@pytest.fixture
def stack(data_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A stack in a process of its own, on the folder that `raa` calls name."""
    process = _process("up", "--data", data_folder / "d", "--tools", TOOLS, "--json", "--log-level", "error")
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline() or "{}")
        assert ready.get("ready"), process.communicate()
        assert ready["pid"] == process.pid
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["run"], "Missing argument 'GOAL'"),
        (["run", "x", "--check", "result >"], "does not parse"),
        (["run", "x", "--input", "nowhere.csv"], "there is no file nowhere.csv"),
        (["run", "x", "--plan", "nowhere.json"], "cannot be read"),
        (["run", " "], "say in words what is wanted"),
        (["run", "x", "--budget", "much"], "--budget: "),
        (["run", "x", "--attempts", "0"], "--attempts: "),
        (["run", "x", "--data", __file__], "is a file"),
        (["run", "x", "--data", "/dev/null/d"], "name another folder"),
        (["up", "--data", "d" * 300], "name another folder"),
        (["doctor", "--data", __file__], "is a file"),
        (["run", "x", "--tools", "nowhere.py"], "there is no file nowhere.py"),
        (["run", "x", "--tenant", "A B"], "is no tenant"),
        (["up", "--services", "planner"], "--services needs Kafka"),
        (["up", "--services", "plumber"], "there is no service 'plumber'"),
        (["tools", "run", "calculate", "1+1"], "write NAME=VALUE"),
        (["tools", "ls", "--tools", "nowhere.py"], "there is no file"),
        (["model", "add", "m", "--url", "nowhere"], "is no address"),
        (["model", "add", "m", "--url", "http://127.0.0.1:1/v1", "--key-env", "NO_SUCH_KEY"], "is not set"),
    ],
)
def test_a_mistake_in_the_call_is_one_line_and_exit_code_2(raa: Any, arguments: list[str], told: str):
    called = raa(*arguments, data="bogus" not in arguments and "--data" not in arguments)
    assert called.code == 2, called
    assert told in called.err
    assert len(called.err.splitlines()) == 1
    assert called.out == ""


def test_without_a_command_only_the_help_is_shown(raa: Any):
    called = raa(data=False)
    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("Usage: ")
    assert "See `raa --help`" not in called.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["submit", "x"], "start one with `raa up"),
        (["cancel", "t1"], "start one with `raa up"),
        (["approve", "t1", "step"], "start one with `raa up"),
        (["result", "t1"], "no stack has run on"),
        (["watch", "t1"], "no stack has run on"),
        (["show", "t1"], "no stack has run on"),
        (["lessons"], "no stack has run on"),
        (["topics", "list"], "no stack has run on"),
        (["tools", "run", "nothing"], "there is no tool 'nothing'"),
    ],
)
def test_what_cannot_be_done_says_what_to_do_next_and_exits_1(raa: Any, arguments: list[str], told: str):
    called = raa(*arguments)
    assert (called.code, called.out) == (1, "")
    assert told in called.err
    assert len(called.err.splitlines()) == 1


def test_a_plan_that_is_none_is_named_with_its_field(raa: Any, tmp_path: Path):
    (tmp_path / "plan.json").write_text('{"steps": [{"id": "1 a", "tool": "calculate"}]}')
    called = raa("run", "x", "--plan", tmp_path / "plan.json")
    assert called.code == 2
    assert "steps.0.id" in called.err


def test_two_inputs_of_one_name_are_refused(raa: Any, tmp_path: Path):
    (tmp_path / "sub").mkdir()
    for file in (tmp_path / "a.csv", tmp_path / "sub" / "a.csv"):
        file.write_text("x\n1\n")
    called = raa("run", "x", "--input", tmp_path / "a.csv", "--input", tmp_path / "sub" / "a.csv")
    assert called.code == 2
    assert "two inputs are called 'a.csv'" in called.err


def test_run_starts_a_stack_itself_and_its_folder_tells_the_story_afterwards(raa: Any, tmp_path: Path):
    ran = raa("run", "use calculate with expression='6 * 7'", "--json")
    assert (ran.code, list(ran.json)) == (0, RESULT_FIELDS)
    assert (ran.json["state"], ran.json["attempts"], ran.json["checked"]) == ("succeeded", 1, False)
    task = ran.json["task_id"]
    assert raa("result", task, "--json").json == ran.json
    assert raa("watch", task, "--json").lines[0]["type"] == "task.created"
    assert raa("show", task, "--json").json["attempts"][0]["verdict"] == "accept"
    shown = raa("show", task, "--html", tmp_path / "story.html")
    assert shown.out.strip() == str(tmp_path / "story.html")
    assert "calculate" in (tmp_path / "story.html").read_text()
    assert raa("lessons", "--json").out == ""
    assert task in {
        event["task_id"] for event in raa("topics", "tail", "task.done", "--from-beginning", "--json").lines
    }
    assert raa("submit", "x").code == 1


def test_a_goal_that_no_plan_covers_fails_with_exit_code_1_and_says_why(raa: Any):
    ran = raa("run", "Forecast the harvest", "--json")
    assert (ran.code, ran.json["state"], ran.json["error"]["code"]) == (1, "failed", "cannot")


def test_files_a_task_wrote_can_be_saved(raa: Any, tmp_path: Path):
    plan = {"steps": [{"id": "write", "tool": "file.write", "args": {"path": "note.md", "parts": ["hello"]}}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    ran = raa("run", "write a note", "--plan", tmp_path / "plan.json", "--json", "--save", tmp_path / "out")
    assert [artifact["name"] for artifact in ran.json["artifacts"]] == ["note.md"]
    assert (tmp_path / "out" / "note.md").read_text() == "hello"


def test_a_tool_of_ones_own_is_listed_and_runs_alone(raa: Any):
    listed = {tool["name"]: tool for tool in raa("tools", "ls", "--tools", TOOLS, "--json").lines}
    assert (listed["notice.send"]["risk"], listed["word_count"]["effect"]) == ("external", "read")
    ran = raa("tools", "run", "word_count", "text=a b", "--tools", TOOLS, "--json")
    assert ran.json["output"] == {"words": 2, "characters": 3}


def test_an_added_model_is_listed_as_the_default_and_its_key_stays_private(
    raa: Any, data_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_KEY", "secret")
    added = raa("model", "add", "mine", "--url", "http://127.0.0.1:9/v1", "--key-env", "MY_KEY", "--json")
    assert added.json["name"] == "mine"
    assert (data_folder / "d" / "models.json").stat().st_mode & 0o077 == 0
    listed = raa("model", "ls", "--json")
    assert {model["name"]: model["default"] for model in listed.lines}["mine"]
    assert "secret" not in listed.out


def test_the_doctor_names_what_is_missing_and_what_mends_it(raa: Any, monkeypatch: pytest.MonkeyPatch):
    healthy = raa("doctor", "--json")
    assert (healthy.code, healthy.json["healthy"]) == (0, True)
    monkeypatch.setenv("RAA_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    sick = raa("doctor", "--json", "--bus", "kafka")
    assert sick.code == 1
    (kafka,) = [finding for finding in sick.json["findings"] if finding["what"] == "kafka"]
    assert (kafka["health"], "RAA_KAFKA_BOOTSTRAP" in kafka["mend"]) == ("missing", True)
    monkeypatch.setenv("RAA_KAFKA_BOOTSTRP", "127.0.0.1:9")
    assert "did you mean RAA_KAFKA_BOOTSTRAP?" in raa("doctor").out


def test_commands_reach_a_running_stack_through_its_folder(raa: Any, stack: subprocess.Popen[str], data_folder: Path):
    again = raa("up")
    assert again.code == 2
    assert f"process {stack.pid} already runs a stack" in again.err
    asked = raa("submit", "send a notice", "--plan", NOTICE, "--json").json["task_id"]
    approved = _until_it_works(raa, "approve", asked, "send", "--json")
    assert approved.json["verdict"] == "approve"
    assert raa("result", asked, "--json").json["state"] == "succeeded"
    denied = raa("submit", "send a notice", "--plan", NOTICE, "--json").json["task_id"]
    _until_it_works(raa, "deny", denied, "send", "--reason", "no")
    refused = raa("result", denied, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "approval_denied")
    left = raa("submit", "send a notice", "--plan", NOTICE, "--json").json["task_id"]
    late = raa("result", left, "--timeout", "0.01")
    assert (late.code, "has not ended" in late.err) == (1, True)
    assert raa("cancel", left, "--json").json["cancelled"]
    assert raa("result", left, "--json").json["state"] == "cancelled"
    assert raa("run", "x", "--model", "m").code == 2
    assert "notice.send" in raa("tools", "ls").out
    assert raa("topics", "apply", "--json").json == {"created": []}


def _until_it_works(raa: Any, *arguments: object) -> Called:
    last: list[Called] = []

    def works() -> bool:
        last.append(raa(*arguments))
        return last[-1].code == 0

    wait_until(works)
    return last[-1]


def test_interrupting_a_run_with_a_stack_of_its_own_cancels_its_task(raa: Any, data_folder: Path):
    process = _process("run", "send a notice", "--plan", NOTICE, "--tools", TOOLS, "--data", data_folder / "d")
    _read_until(process, "waits for you")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, (out, err)
    assert "was cancelled" in err
    assert "Traceback" not in out + err
    created = raa("topics", "tail", "task.created", "--from-beginning", "--json").lines[0]["task_id"]
    assert raa("result", created, "--json").json["state"] == "cancelled"


def test_interrupting_a_run_in_another_stack_leaves_the_task(raa: Any, stack: subprocess.Popen[str], data_folder: Path):
    process = _process("run", "send a notice", "--plan", NOTICE, "--data", data_folder / "d")
    line = _read_until(process, "waits for you")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in out + err) == (130, False)
    assert "goes on" in err
    task = line.split()[-2]
    assert task in err
    assert raa("result", task, "--timeout", "0.01").code == 1


def test_a_stack_drains_on_sigterm_and_exits_with_0(stack: subprocess.Popen[str]):
    stack.send_signal(signal.SIGTERM)
    assert stack.wait(20) == 0


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(process.communicate())


def test_the_demo_is_right_and_says_so_to_programs(raa: Any, data_folder: Path):
    played = raa("demo", "--json")
    assert (played.code, played.json["right"], len(played.json["runs"])) == (0, True, 6), played
    assert all(run["differences"] == [] for run in played.json["runs"])
    assert len(played.json["lessons"]) == 2
    assert Path(played.json["page"]).read_text().startswith("<!doctype html>")
