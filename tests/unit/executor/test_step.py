"""The table of a step: every phase against every event."""

from datetime import timedelta
from typing import Any

import pytest

from raa_executor.domain.step import KEYS
from raa_executor.handlers import STEP
from raa_schemas.canonical import digest
from raa_schemas.plan import Limits
from raa_schemas.step import Effect, StepFinished, StepStarted
from tests.unit.executor.plans import NOW
from tests.unit.executor.steps import ARGS, Desk, grant, ring, step_ready

NOT_STARTED = {"status": "not_started", "why": "the kill switch is on"}
UNKNOWN = {"status": "unknown"}


def test_a_granted_step_starts_its_tool_and_says_so():
    desk = Desk()
    desk.ready(step_ready(grant()))
    assert (desk.running, desk.starts) == (["tool"], 1)
    activity = desk.unit.activities["tool"]
    assert (activity.effect, activity.args["args"], activity.args["tool"]) == ("read", ARGS, "probe")
    desk.tool_succeeds({"v": 1})
    assert desk.finished == [("succeeded", None)]
    assert desk.unit.closed


def test_what_ended_is_told_with_output_digest_effect_and_attempt():
    desk = Desk("keyed", "workspace")
    desk.ready(step_ready(grant()))
    desk.tool_succeeds({"v": 1})
    told = desk.events[-1]
    assert isinstance(told, StepFinished)
    assert (told.output, told.output_digest, told.effect, told.attempt, told.args_hash) == (
        {"v": 1},
        digest({"v": 1}),
        "keyed",
        1,
        digest(ARGS),
    )


def test_the_epochs_of_a_step_only_rise_however_it_is_started_again():
    desk = Desk("keyed", "workspace")
    desk.ready(step_ready(grant(expires_at=NOW + timedelta(hours=1)), retries=1))
    epochs = [desk.unit.activities["tool"].epoch]
    desk.tool_ends(NOT_STARTED)
    desk.timer("again", timedelta(seconds=1))
    epochs.append(desk.unit.activities["tool"].epoch)
    desk.unit.aggregate.activities["tool"].epoch += 2  # other processes took it over twice
    desk.tool_fails("tool_timeout")
    desk.timer("again", timedelta(seconds=1))
    epochs.append(desk.unit.activities["tool"].epoch)
    desk.tool_ends(outcome="unknown")
    desk.decide("not_happened")
    epochs.append(desk.unit.activities["tool"].epoch)
    assert epochs == [1, 2, 5, 6]
    assert [event.epoch for event in desk.events if isinstance(event, StepStarted)] == [1, 5, 6]
    desk.tool_ends(outcome="unknown")
    desk.decide("happened")
    assert desk.events[-1].epoch == 6


def test_what_may_have_happened_before_a_crash_is_looked_up_by_the_next_start():
    desk = Desk("checkable", "workspace")
    desk.ready(step_ready(grant()))
    desk.tool_ends(NOT_STARTED | {"suspect": True})
    desk.timer("again", timedelta(seconds=2))
    assert desk.unit.activities["tool"].args["suspect"]


def test_a_cancel_of_what_may_have_happened_says_that_nobody_knows():
    desk = Desk("checkable", "workspace")
    desk.ready(step_ready(grant()))
    desk.tool_ends(NOT_STARTED | {"suspect": True})
    desk.cancel()
    assert desk.finished == [("outcome_unknown", "outcome_unknown")]


def test_a_second_release_of_a_step_starts_nothing():
    desk = Desk()
    desk.ready(step_ready(grant()))
    desk.ready(step_ready(grant()))
    assert (desk.starts, desk.unit.ignored is not None) == (1, True)


def test_a_tool_this_executor_does_not_have_fails_the_step_without_asking():
    desk = Desk()
    definition = {"id": "mean", "tool": "nowhere", "args": {}}
    desk.ready(step_ready(None, definition=definition))
    assert (desk.finished, desk.asked) == ([("failed", "unknown_tool")], [])


def test_a_forged_grant_fails_the_step_and_starts_nothing():
    desk = Desk()
    desk.ready(step_ready(grant(step="other")))
    assert (desk.finished, desk.running, desk.asked) == ([("failed", "grant_denied")], [], [])


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "no_grant"),
        (grant(expires_at=NOW), "grant_expired"),
    ],
)
def test_without_a_valid_grant_safety_is_asked_about_the_bound_arguments(own: Any, reason: str):
    desk = Desk()
    desk.ready(step_ready(own))
    assert (desk.asked, desk.running, desk.phase) == ([reason], [], "asking")
    assert desk.events[-1].args == ARGS
    desk.decide("allowed", grant("bound"))
    assert desk.running == ["tool"]


def test_an_external_tool_waits_for_a_decision_on_its_bound_arguments():
    desk = Desk("once", "external")
    desk.ready(step_ready(grant()))
    assert (desk.asked, desk.running) == (["external"], [])
    desk.decide("allowed", grant("bound"))
    assert desk.running == ["tool"]


@pytest.mark.parametrize(
    ("risk", "decision", "code"),
    [
        ("external", "denied", "approval_denied"),
        ("external", "expired", "approval_expired"),
        ("read", "denied", "grant_denied"),
    ],
)
def test_a_refusal_fails_the_step(risk: Any, decision: Any, code: str):
    desk = Desk("once", risk)
    desk.ready(step_ready(None if risk == "read" else grant()))
    desk.decide(decision)
    assert desk.finished == [("failed", code)]


@pytest.mark.parametrize(("by", "code"), [("person", "approval_denied"), ("policy", "grant_denied")])
@pytest.mark.parametrize(("risk", "own"), [("external", grant()), ("external", None), ("read", None)])
def test_a_refusal_says_whether_a_person_or_the_policy_refused(risk: Any, own: Any, by: Any, code: str):
    desk = Desk("once", risk)
    desk.ready(step_ready(own))
    desk.decide("denied", by=by)
    assert desk.finished == [("failed", code)]


def test_what_safety_refuses_after_the_deadline_was_late_and_not_forbidden():
    desk = Desk("once", "read")
    desk.ready(step_ready(None, limits=Limits(deadline=NOW)))
    desk.decide("denied")
    assert desk.finished == [("failed", "deadline_exceeded")]


def test_a_decision_about_other_arguments_changes_nothing():
    desk = Desk("once", "external")
    desk.ready(step_ready())
    desk.decide("allowed", grant("bound"), args_hash=digest("other"))
    assert (desk.phase, desk.running) == ("asking", [])


def test_a_decision_nobody_asked_for_creates_nothing():
    desk = Desk()
    desk.decide("allowed", grant("bound"))
    assert desk.unit.ignored is not None


def test_an_allowed_action_with_a_grant_that_was_tampered_with_does_not_run():
    desk = Desk("once", "external")
    desk.ready(step_ready())
    desk.decide("allowed", grant("bound").model_copy(update={"policy_version": "q"}))
    assert (desk.finished, desk.running) == ([("failed", "grant_denied")], [])


def test_grants_that_are_never_usable_end_after_a_few_questions():
    desk = Desk("once", "external")
    desk.ready(step_ready())
    for _ in range(5):
        desk.decide("allowed", grant("bound", expires_at=NOW))
    assert desk.finished == [("failed", "grant_denied")]


def test_an_unknown_key_is_looked_up_before_anybody_is_asked():
    desk = Desk(keys=ring())
    desk.ready(step_ready(grant()))
    assert (desk.running, desk.phase, desk.asked) == ([KEYS], "learning_keys", [])
    desk.keys_arrive("k1")
    assert desk.running == ["tool"]


def test_a_key_that_stays_unknown_means_ask():
    desk = Desk(keys=ring())
    desk.ready(step_ready(grant()))
    desk.keys_arrive()
    assert (desk.asked, desk.running) == (["no_grant"], [])


def test_with_the_kill_switch_on_nothing_happened_and_the_step_tries_again_under_the_same_attempt():
    desk = Desk("once", "workspace")
    desk.ready(step_ready(grant()))
    key = desk.unit.activities["tool"].key
    desk.tool_ends(NOT_STARTED)
    assert (desk.phase, desk.finished, desk.unit.timers) == ("held", [], {"again": NOW + timedelta(seconds=1)})
    desk.timer("again")
    assert (desk.running, desk.starts, desk.unit.state.attempt) == (["tool"], 1, 1)
    assert desk.unit.activities["tool"].key == key
    desk.tool_ends(NOT_STARTED)
    assert desk.unit.timers["again"] - desk.now == timedelta(seconds=2)


def test_a_step_held_until_its_grant_expired_asks_again_instead_of_starting():
    desk = Desk()
    desk.ready(step_ready(grant()))
    desk.tool_ends(NOT_STARTED)
    desk.timer("again", timedelta(minutes=11))
    assert (desk.asked, desk.running) == (["grant_expired"], [])


def test_a_step_held_past_the_deadline_fails():
    desk = Desk()
    desk.ready(step_ready(grant(expires_at=NOW + timedelta(days=2))))
    desk.tool_ends(NOT_STARTED)
    desk.timer("again", timedelta(hours=2))
    assert desk.finished == [("failed", "deadline_exceeded")]


def test_while_a_person_decides_the_deadline_stands_still():
    desk = Desk("once", "external")
    desk.ready(step_ready())
    desk.now += timedelta(hours=5)
    desk.decide("allowed", grant("bound", expires_at=desk.now + timedelta(minutes=5)))
    assert desk.running == ["tool"]


def test_a_tool_never_gets_more_time_than_the_task_has():
    desk = Desk()
    desk.now = NOW + timedelta(minutes=59, seconds=50)
    desk.ready(step_ready(grant(expires_at=NOW + timedelta(hours=2))))
    assert desk.unit.activities["tool"].timeout_seconds == 10


@pytest.mark.parametrize("effect", ["read", "keyed"])
def test_a_passing_failure_is_tried_again_while_granted_tries_last(effect: Effect):
    desk = Desk(effect, "workspace")
    desk.ready(step_ready(grant(), retries=1))
    key = desk.unit.activities["tool"].key
    desk.tool_fails("tool_timeout")
    desk.timer("again")
    assert (desk.running, desk.starts) == (["tool"], 2)
    assert desk.unit.activities["tool"].key == key
    desk.tool_fails("tool_timeout")
    assert desk.finished == [("failed", "tool_timeout")]
    assert desk.events[-1].retries_used == 1


def test_a_failure_that_would_come_again_is_not_tried_again():
    desk = Desk()
    desk.ready(step_ready(grant(), retries=2))
    desk.tool_fails("not_numeric")
    assert desk.finished == [("failed", "not_numeric")]


@pytest.mark.parametrize("effect", ["once", "checkable"])
@pytest.mark.parametrize("code", ["tool_timeout", "internal"])
def test_a_call_that_was_cut_off_and_must_not_be_repeated_is_unknown(effect: Effect, code: str):
    desk = Desk(effect, "workspace")
    desk.ready(step_ready(grant(), retries=2))
    desk.tool_fails(code)
    assert (desk.phase, desk.asked, desk.finished) == ("unknown", ["outcome_unknown"], [])


def test_an_error_the_tool_itself_reports_is_a_failure_and_is_not_repeated():
    desk = Desk("once", "workspace")
    desk.ready(step_ready(grant(), retries=2))
    desk.tool_fails("tool_error")
    assert desk.finished == [("failed", "tool_error")]


def unknown_desk() -> Desk:
    desk = Desk("once", "workspace")
    desk.ready(step_ready(grant()))
    desk.tool_ends(outcome="unknown")
    return desk


def test_an_unknown_outcome_waits_for_a_person_without_settling():
    desk = unknown_desk()
    assert (desk.phase, desk.asked, desk.finished, desk.running) == ("unknown", ["outcome_unknown"], [], [])
    assert desk.unit.timers


@pytest.mark.parametrize(
    ("decision", "finished"),
    [
        ("happened", [("succeeded", None)]),
        ("give_up", [("outcome_unknown", "outcome_unknown")]),
        ("expired", [("outcome_unknown", "outcome_unknown")]),
        ("denied", [("outcome_unknown", "outcome_unknown")]),
        ("allowed", []),
    ],
)
def test_what_a_person_found_out_settles_the_step(decision: Any, finished: list[Any]):
    desk = unknown_desk()
    desk.decide(decision, grant("bound"))
    assert (desk.finished, desk.starts) == (finished, 1)


def test_what_did_not_happen_runs_again_under_a_fresh_intent():
    desk = unknown_desk()
    desk.decide("not_happened")
    assert (desk.running, desk.starts, desk.unit.state.attempt) == (["tool"], 2, 2)
    desk.tool_succeeds()
    assert desk.finished == [("succeeded", None)]


def test_a_question_nobody_answers_ends_as_unknown():
    desk = unknown_desk()
    desk.timer("patience", timedelta(days=9))
    assert desk.finished == [("outcome_unknown", "outcome_unknown")]


def test_a_permission_nobody_gives_expires():
    desk = Desk("once", "external")
    desk.ready(step_ready())
    desk.timer("patience", timedelta(days=9))
    assert desk.finished == [("failed", "approval_expired")]


def test_cancel_before_the_release_settles_the_step_and_a_later_release_starts_nothing():
    desk = Desk()
    desk.cancel()
    assert desk.finished == [("cancelled", "cancelled")]
    assert desk.unit.closed
    desk.unit.aggregate.state = STEP.tombstone(desk.unit.state)
    desk.ready(step_ready(grant()))
    assert (desk.running, desk.finished) == ([], [("cancelled", "cancelled")])


def test_cancel_stops_a_tool_that_may_be_repeated():
    desk = Desk()
    desk.ready(step_ready(grant()))
    desk.cancel()
    assert desk.unit.stopped == ["tool"]
    desk.tool_ends(outcome="cancelled")
    assert desk.finished == [("cancelled", "cancelled")]


def test_cancel_does_not_interrupt_an_action_that_must_not_be_repeated():
    desk = Desk("once", "workspace")
    desk.ready(step_ready(grant()))
    desk.cancel()
    assert desk.unit.stopped == []
    desk.tool_succeeds()
    assert desk.finished == [("succeeded", None)]


def test_a_cancelled_step_whose_outcome_is_unknown_asks_nobody():
    desk = Desk("once", "workspace")
    desk.ready(step_ready(grant()))
    desk.cancel()
    desk.tool_ends(UNKNOWN)
    assert (desk.finished, desk.asked) == ([("outcome_unknown", "outcome_unknown")], [])


def test_cancel_of_a_step_that_waits_settles_it_at_once():
    asking, held = Desk("once", "external"), Desk()
    asking.ready(step_ready())
    held.ready(step_ready(grant()))
    held.tool_ends(NOT_STARTED)
    unknown = unknown_desk()
    for desk in (asking, held, unknown):
        desk.cancel()
    assert (asking.finished, held.finished) == ([("cancelled", "cancelled")], [("cancelled", "cancelled")])
    assert unknown.finished == [("outcome_unknown", "outcome_unknown")]


def test_a_settled_step_answers_nothing_any_more():
    desk = Desk()
    desk.ready(step_ready(grant()))
    desk.tool_succeeds()
    desk.ready(step_ready(grant()))
    assert desk.unit.ignored is not None
    desk.cancel()
    assert desk.unit.ignored is not None
    desk.decide("allowed", grant("bound"))
    assert desk.unit.ignored is not None
    assert desk.finished == [("succeeded", None)]


def test_the_key_of_an_action_differs_between_tasks_and_arguments():
    one, other = Desk(), Desk()
    one.ready(step_ready(grant()))
    changed = ARGS | {"x": 8}
    other.ready(step_ready(grant(), args=changed, args_hash=digest(changed)))
    assert one.unit.activities["tool"].key != other.unit.activities["tool"].key
