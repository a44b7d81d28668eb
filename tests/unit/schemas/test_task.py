"""What a client may send: only the goal is required, and what cannot be meant is refused with advice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raa_schemas.artifact import Input, workspace_name
from raa_schemas.errors import CODES, error
from raa_schemas.task import Constraints, TaskCreated


def _created(**fields: Any) -> TaskCreated:
    return TaskCreated.model_validate_json(json.dumps({"goal": "count the rows"} | fields))


def test_a_goal_is_enough() -> None:
    task = _created()
    assert (task.task_id, task.inputs, task.plan, task.success_check) == (None, [], None, None)
    assert task.constraints.max_attempts == 3
    assert task.constraints.memory == "on"


def test_members_of_a_later_minor_version_are_ignored() -> None:
    assert _created(mood="hopeful", constraints={"haste": 3}) == _created()


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"goal": " \n"}, "say in words what is wanted"),
        ({"goal": None}, "goal"),
        ({"goal": "x" * 16_385}, "goal"),
        ({"task_id": "a/b"}, "task_id"),
        ({"task_id": "a\n"}, "task_id"),
        ({"inputs": [{"name": "a.csv"}, {"name": "a.csv"}]}, "names must be unique"),
        ({"inputs": [{"name": "../a.csv"}]}, "use a relative path"),
        ({"success_check": "1 == 1 or " * 51}, "success_check"),
        ({"labels": {str(number): "x" for number in range(65)}}, "labels"),
        ({"labels": {"a": "x" * 1_001}}, "labels"),
        ({"plan": {"steps": []}}, "steps"),
        ({"constraints": {"deadline_seconds": 0}}, "deadline_seconds"),
        ({"constraints": {"deadline_seconds": 31 * 86_400}}, "deadline_seconds"),
        ({"constraints": {"budget_usd": "1e999999999"}}, "budget_usd"),
        ({"constraints": {"budget_usd": -1}}, "budget_usd"),
        ({"constraints": {"memory": "maybe"}}, "memory"),
        ({"constraints": {"not_before": "2026-03-01T12:00:00"}}, "not_before"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(fields: dict[str, Any], advice: str) -> None:
    with pytest.raises(ValidationError, match=advice):
        _created(**fields)


@pytest.mark.parametrize(
    ("budget_usd", "microusd"), [("0.30", 300_000), ("0.0000019", 1), (0, 0), (1.1, 1_100_000), (None, None)]
)
def test_a_budget_is_counted_in_millionths_and_rounded_down(budget_usd: Any, microusd: int | None) -> None:
    assert Constraints.model_validate({"budget_usd": budget_usd}).budget_microusd == microusd


@given(st.text(max_size=300))
def test_a_file_name_that_is_accepted_stays_inside_the_workspace(name: str) -> None:
    try:
        workspace_name(name)
    except ValueError as refusal:
        assert "name" in str(refusal)  # noqa: PT017  # whether it is refused is what hypothesis varies
    else:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert "\0" not in name


@pytest.mark.parametrize("name", ["a.csv", "data/2026/a b.csv", "größe.csv", "..a", ".hidden"])
def test_ordinary_file_names_are_accepted(name: str) -> None:
    assert Input(name=name).name == name


def test_every_error_code_says_what_it_means_and_what_to_do() -> None:
    for code, row in CODES.items():
        assert row.meaning, code
        assert row.hint, code


def test_an_error_is_built_from_the_table_and_a_tools_own_code_is_taken_as_it_is() -> None:
    timeout = error("tool_timeout", step_id="mean", seconds=3)
    assert (timeout.message, timeout.retryable) == (CODES["tool_timeout"].meaning, True)
    assert (timeout.step_id, timeout.hint, timeout.details) == ("mean", CODES["tool_timeout"].hint, {"seconds": 3})
    own = error("printer_on_fire", "the printer is on fire")
    assert (own.code, own.retryable, own.hint) == ("printer_on_fire", False, None)
