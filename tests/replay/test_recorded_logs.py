"""The event logs of every released version keep decoding, and keep folding to the same story."""

import json
from pathlib import Path
from typing import Any

import pytest

from raa_runtime.intake import Intake, read_body
from raa_schemas.tenants import IntakePolicy
from tests.replay.log_file import RECORDED, folded, load

LOGS = sorted(RECORDED.glob("*.jsonl"))


def test_there_is_a_log_of_a_release() -> None:
    assert LOGS


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_record_of_a_release_is_still_an_event(path: Path) -> None:
    intake = Intake("", IntakePolicy(allow_anonymous=True))
    for record in load(path):
        if record.topic.endswith(".dlq"):
            continue
        event = read_body(intake.address(record))
        before, now = json.loads(record.value or b"{}"), json.loads(event.data.model_dump_json())
        lost = [name for name in before if name not in now]
        assert not lost, f"{record.topic}: {lost} would be dropped"


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_the_log_of_a_release_still_tells_the_same_story(path: Path) -> None:
    then = json.loads(path.with_suffix(".story.json").read_text())
    assert _as_told(folded(path), then) == then


def _as_told(now: Any, then: Any) -> Any:
    """Leave out what later releases add to a story and could not know of this one."""
    if isinstance(now, dict) and isinstance(then, dict):
        known = {name: value for name, value in now.items() if value is not None or name in then}
        return {name: _as_told(value, then.get(name)) for name, value in known.items()}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [_as_told(*pair) for pair in zip(now, then, strict=True)]
    return now
