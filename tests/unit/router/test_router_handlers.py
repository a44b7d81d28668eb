from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from raa_router.domain.asking import Asked, ask
from raa_router.domain.chat import CHAT, Answer, BudgetExhaustedError, Chat, KeyConflictError
from raa_router.handlers import on_completed, on_expired
from raa_runtime.testing import NOON, completed, unit_for
from raa_runtime.unit import Unit
from raa_schemas.errors import error
from raa_schemas.usage import UsageRecorded

ASKED = Asked(request={"messages": []}, digest="sha256:1", task_id="t1", purpose="plan", models=["m"],
              timeout=timedelta(seconds=60))  # fmt: skip
ANSWER = Answer(content="{}", model="m", prompt_tokens=3, completion_tokens=2, cost_microusd=None, latency_ms=9)
WEEK = timedelta(days=7)


def asked(unit: Unit[Chat], **changes: Any) -> Asked:
    given = replace(ASKED, **changes)
    ask(unit, given)
    return given


def running() -> Unit[Chat]:
    unit = unit_for(CHAT, "acme/k")
    asked(unit)
    return unit


def test_a_new_key_starts_one_call_that_may_be_repeated() -> None:
    unit = running()
    (activity,) = unit.started
    assert (activity.kind, activity.effect, activity.timeout_seconds) == ("complete", "keyed", 60)
    assert activity.args == {"request": {"messages": []}, "models": ["m"], "bounded": False}


def test_the_answer_and_its_usage_are_one_write() -> None:
    unit = running()
    on_completed(unit, completed(unit, unit.started[0].id, ANSWER.model_dump(mode="json")), retention=WEEK)
    assert unit.state.settled == ANSWER
    (usage,) = unit.published
    assert isinstance(usage, UsageRecorded)
    assert (usage.task_id, usage.model, usage.cost_microusd, usage.request_digest) == ("t1", "m", None, "sha256:1")
    assert unit.timers["expire"] == NOON + WEEK


def test_a_request_that_comes_while_its_twin_runs_joins_it() -> None:
    unit = running()
    again = unit_for(CHAT, "acme/k", state=unit.state)
    assert asked(again).standing == "joined"
    assert (again.started, again.ignored) == ([], "the call is running")


def test_a_failure_is_told_and_the_next_request_starts_afresh() -> None:
    unit = running()
    problem = error("model_unavailable", "down")
    on_completed(unit, completed(unit, unit.started[0].id, outcome="failed", problem=problem), retention=WEEK)
    assert unit.state.settled == problem
    assert unit.published == []
    waiting = unit_for(CHAT, "acme/k", state=unit.state.model_copy())
    asked(waiting, again=True)
    assert waiting.started == []
    fresh = unit_for(CHAT, "acme/k", state=unit.state)
    assert asked(fresh).standing == "started"
    assert len(fresh.started) == 1


def test_another_request_under_a_used_key_is_refused_in_every_phase() -> None:
    for phase in ("running", "answered", "failed", "expired"):
        unit = unit_for(CHAT, "acme/k", state=Chat(phase=phase, digest="sha256:1"))
        with pytest.raises(KeyConflictError):
            asked(unit, digest="sha256:2")


def test_money_is_refused_only_when_a_call_would_be_made() -> None:
    with pytest.raises(BudgetExhaustedError, match="5 left"):
        asked(unit_for(CHAT, "acme/k"), models=[], shortfall="5 left")
    stored = unit_for(CHAT, "acme/k", state=Chat(phase="answered", digest="sha256:1", answer=ANSWER))
    assert asked(stored, models=[]).standing == "replayed"


def test_an_expired_answer_leaves_its_key_known() -> None:
    unit = unit_for(CHAT, "acme/k", state=Chat(phase="answered", digest="sha256:1", answer=ANSWER))
    on_expired(unit, "expire")
    assert unit.closed
    shrunk = CHAT.tombstone(unit.state)
    assert shrunk.answer is None
    with pytest.raises(KeyConflictError, match="retention"):
        asked(unit_for(CHAT, "acme/k", state=shrunk))
