"""Mistakes a person makes at the command line: each is named, with what to do; and programs can read it, too."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raa_cli.misspelt import misspelt
from raa_schemas.plan import Plan
from tests.unit.cli.test_command import Called, raa, stack  # noqa: F401  # fixtures

Raa = Callable[..., Called]


def test_the_version_is_told(raa: Raa):  # noqa: F811
    said = raa("--version", data=False)
    assert said.code == 0
    assert said.out.startswith("raa 0.")


def test_the_version_is_told_as_json_and_json_alone_is_a_mistake(raa: Raa):  # noqa: F811
    plain = raa("--version", data=False).out.split()[1]
    for words in (["--version", "--json"], ["--json", "--version"]):
        assert raa(*words, data=False).json == {"version": plain}
    misplaced = raa("--json", "dlq", "ls")
    assert (misplaced.code, "belongs behind the command" in misplaced.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["result", "t1"], 1, "CommandFailed"),
        (["run"], 2, "MissingParameter"),
        (["run", "x", "--check", "result >"], 2, "UsageProblem"),
    ],
)
def test_an_error_under_json_is_one_json_line_on_standard_error(raa: Raa, words: list[str], code: int, kind: str):  # noqa: F811
    failed = raa(*words, "--json")
    assert failed.code == code
    assert failed.out == ""
    (line,) = failed.err.splitlines()
    problem = json.loads(line)["error"]
    assert problem["exit_code"] == code
    assert problem["kind"] == kind
    assert problem["message"]


def _plan(folder: Path, **changes: Any) -> Path:
    path = folder / "plan.json"
    step = {"id": "a", "tool": "calculate", "args": {"expression": "1 + 1", "anything": {"goes": "here"}}}
    path.write_text(json.dumps({"steps": [step], "result": {"ref": "a"}} | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reslt": 1}, "reslt: there is no such field; did you mean 'result'?"),
        ({"steps": [{"id": "a", "tol": "calculate"}]}, "steps[0].tol: there is no such field; did you mean 'tool'?"),
        ({"zzz": 1}, "zzz: there is no such field; there are version, origin"),
    ],
)  # fmt: skip
def test_a_misspelt_field_of_a_plan_is_named_with_the_nearest(
    raa: Raa,  # noqa: F811
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
):
    refused = raa("submit", "x", "--plan", _plan(tmp_path, **changes))
    assert refused.code == 2
    assert said in refused.err


def test_what_is_free_in_a_plan_stays_free(tmp_path: Path):
    assert list(misspelt(Plan, json.loads(_plan(tmp_path).read_text()))) == []


def test_a_second_use_of_a_task_id_is_pointed_out_with_what_is_ignored(raa: Raa, stack: Any):  # noqa: F811
    first = raa("submit", "what is 6 * 7", "--task-id", "mine", "--json").json
    assert first == {"task_id": "mine", "first_submission": True, "ignored": []}
    again = raa("submit", "what is 6 * 7", "--task-id", "mine", "--json").json
    assert again == {"task_id": "mine", "first_submission": False, "ignored": []}
    other = raa("submit", "what is 1 + 1", "--task-id", "mine", "--check", "result > 0")
    assert other.code == 0
    assert "this is the first submission's task, not with this goal and success check" in other.err
    assert "submitted with the goal 'what is 6 * 7'" in other.err
    assert raa("result", "mine", "--json").json["result"] == 42


def test_the_status_of_a_task_that_waits_for_a_model_names_its_address(raa: Raa, data_folder: Path):  # noqa: F811
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and answers nothing, as a hanging model does
    address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
    environment = os.environ | {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "x", "OPENAI_MODEL": "m"}
    command = [sys.executable, "-m", "raa_cli", "up", "--data", str(data_folder / "d"), "--json"]
    with silent, subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert json.loads(up.stdout.readline())["ready"]
        task = raa("submit", "plan something", "--json").json["task_id"]
        said: Any = {"models": []}
        for _ in range(100):
            if (said := raa("status", task, "--json").json)["models"]:
                break
        up.send_signal(signal.SIGTERM)
    assert (said["state"], said["problem"]) == ("planning", None)
    assert address in said["models"][0]
    assert "goes on with `raa up" in raa("status", task).out


def test_the_status_of_a_task_that_ended_is_its_outcome(raa: Raa, data_folder: Path):  # noqa: F811
    task = raa("run", "what is 6 * 7", "--json").json["task_id"]
    assert raa("status", task).out.strip() == f"{task} succeeded"
    assert "has no task 'nobody'" in raa("status", "nobody").err
