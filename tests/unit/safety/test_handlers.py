"""What safety publishes about plans, actions and people's answers."""

import base64
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from cryptography.exceptions import InvalidSignature

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.keys import public_key
from raa_runtime.testing import NOON, received
from raa_runtime.unit import Unit
from raa_safety.domain.policy import read_policies
from raa_safety.domain.task import SafetyTask
from raa_safety.handlers import (
    Desk,
    on_action_proposed,
    on_approval_decided,
    on_cancel_requested,
    on_end,
    on_expiry,
    on_plan_proposed,
)
from raa_schemas.action import ActionDecided
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.cancel import CancelRequested
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.event import Event
from raa_schemas.plan import Grant, PlanReady, PlanRejected, Step
from tests.unit.safety.desk import HOUR, SIGNER, FixedCatalog, Person, action, desk, proposed, running, task

E = TypeVar("E", bound=Event)


def only(unit: Unit[SafetyTask], kind: type[E]) -> E:
    (event,) = unit.published
    assert isinstance(event, kind)
    return event


def signed_by_safety(grant: Grant, tenant: str = "default", task_id: str = "t1", version: int = 1) -> None:
    """Raise InvalidSignature unless the grant was signed for exactly this place."""
    content = canonical_bytes(grant.signed_content("", tenant, task_id, version))
    public_key(SIGNER.public_key).verify(base64.b64decode(grant.signature), content)


def ask(state: SafetyTask, at_desk: Desk, **changed: Any) -> ApprovalRequested:
    unit = task(state)
    on_action_proposed(unit, action(**changed), desk=at_desk)
    return only(unit, ApprovalRequested)


def answer(
    state: SafetyTask, given: ApprovalDecided, at_desk: Desk, at: timedelta = HOUR, tenant: str = "default"
) -> Unit[SafetyTask]:
    unit = task(state, at, tenant)
    on_approval_decided(unit, received(given), desk=at_desk)
    return unit


def test_a_sound_plan_is_ready_with_a_grant_for_each_step_of_low_risk():
    unit = task()
    steps = [
        Step(id="a", tool="look", args={"x": 1}),
        Step(id="b", tool="note"),
        Step(id="c", tool="mail", args={"to": {"ref": "a"}}),
    ]
    on_plan_proposed(unit, proposed(*steps), desk=desk())
    ready = only(unit, PlanReady)
    assert list(ready.grants) == ["a", "b"]
    grant = ready.grants["a"]
    signed_by_safety(grant)
    assert (grant.args_hash, grant.covers, grant.tool) == (digest({"x": 1}), "template", "look")
    assert grant.expires_at == NOON + HOUR
    assert ready.plan.steps == steps
    assert ready.limits.deadline == NOON + 10 * HOUR


def test_a_grant_is_worth_nothing_for_another_tenant_task_or_plan_version():
    unit = task()
    on_plan_proposed(unit, proposed(), desk=desk())
    grant = only(unit, PlanReady).grants["a"]
    places: list[dict[str, Any]] = [{"tenant": "other"}, {"task_id": "t2"}, {"version": 2}]
    for place in places:
        with pytest.raises(InvalidSignature):
            signed_by_safety(grant, **place)


def test_no_grant_outlives_its_task():
    unit = task()
    on_plan_proposed(unit, proposed(deadline=NOON + timedelta(minutes=5)), desk=desk())
    assert only(unit, PlanReady).grants["a"].expires_at == NOON + timedelta(minutes=5)


def test_an_unsound_plan_is_rejected_and_its_repair_may_keep_the_version():
    unit = task()
    on_plan_proposed(unit, proposed(Step(id="a", tool="lok")), desk=desk())
    assert [finding.code for finding in only(unit, PlanRejected).findings] == ["unknown_tool"]
    again = task(unit.state)
    on_plan_proposed(again, proposed(), desk=desk())
    assert isinstance(again.published[0], PlanReady)


def test_a_verified_version_that_comes_again_publishes_nothing():
    unit = task(running("look"))
    on_plan_proposed(unit, proposed(Step(id="s0", tool="note")), desk=desk())
    assert (unit.published, unit.ignored is None) == ([], False)


def test_while_no_tools_are_known_a_plan_waits():
    with pytest.raises(DependencyUnavailable):
        on_plan_proposed(task(), proposed(), desk=desk(catalog=FixedCatalog(None)))


def test_a_tenants_own_policy_decides_what_runs_without_asking():
    book = read_policies('{"tenants": {"strict": {"allow_risks": ["read"]}}}')
    for tenant, granted in (("strict", ["a"]), ("default", ["a", "b"])):
        unit = task(tenant=tenant)
        on_plan_proposed(unit, proposed(Step(id="a", tool="look"), Step(id="b", tool="note")), desk=desk(policies=book))
        assert list(only(unit, PlanReady).grants) == granted


def test_an_expired_grant_of_low_risk_is_renewed_for_the_bound_arguments():
    unit = task(running("look"), at=2 * HOUR)
    on_action_proposed(unit, action(tool="look", args={"x": 2}, reason="grant_expired"), desk=desk())
    decided = only(unit, ActionDecided)
    assert decided.decision == "allowed"
    assert decided.grant is not None
    signed_by_safety(decided.grant)
    assert (decided.grant.covers, decided.grant.args_hash) == ("bound", digest({"x": 2}))
    assert decided.grant.expires_at == NOON + 3 * HOUR


def test_an_external_action_waits_for_a_person_and_the_deadline_stands_still():
    state, person = running("mail"), Person()
    asked = ask(state, desk(person))
    assert (asked.question, asked.args, asked.approvers) == ("may_run", {"to": "x@example.org"}, [person.key_id])
    assert asked.expires_at == NOON + 24 * HOUR
    assert asked.effect_summary == "Send a mail. (once: cannot be repeated or taken back; risk external)"
    unit = answer(state, person.answer(asked, "approve"), desk(person), at=5 * HOUR)
    assert state.deadline == NOON + 15 * HOUR
    assert unit.timers == {"end": NOON + 16 * HOUR}


def test_an_approval_signed_by_a_known_key_allows_exactly_the_bound_arguments():
    state, person = running("mail"), Person()
    asked = ask(state, desk(person))
    decided = only(answer(state, person.answer(asked, "approve", reason="it is fine"), desk(person)), ActionDecided)
    assert (decided.decision, decided.args_hash) == ("allowed", asked.args_hash)
    assert decided.reason == f"{person.key_id}: it is fine"
    assert decided.grant is not None
    signed_by_safety(decided.grant)
    assert (decided.grant.covers, decided.grant.args_hash) == ("bound", asked.args_hash)


@pytest.mark.parametrize(
    "changed",
    [
        {"args_hash": "sha256:other"},
        {"plan_version": 2},
        {"step": "s1"},
        {"approval_id": "apr_other"},
        {"verdict": "happened"},
        {"decided_by": "somebody"},
    ],
)
def test_an_answer_about_anything_else_is_refused_and_noted(changed: dict[str, Any]):
    state, person = running("mail"), Person()
    asked = ask(state, desk(person))
    unit = answer(state, person.answer(asked, **({"verdict": "approve"} | changed)), desk(person))
    assert unit.published == []
    assert len(state.approvals) == len(state.refused) == 1


@pytest.mark.parametrize("field", ["reason", "signature"])
def test_any_changed_byte_of_a_signed_answer_fails_closed(field: str):
    state, person = running("mail"), Person()
    good = person.answer(ask(state, desk(person)), "approve")
    other = "Z" + good.signature[1:] if good.signature[0] != "Z" else "Y" + good.signature[1:]
    forged = good.model_copy(update={field: {"reason": "changed", "signature": other}[field]})
    assert answer(state, forged, desk(person)).published == []


def test_an_answer_signed_for_another_tenant_is_refused():
    state, person = running("mail"), Person()
    given = person.answer(ask(state, desk(person)), "approve", tenant="other")
    assert answer(state, given, desk(person)).published == []


def test_an_unknown_key_may_not_decide_even_with_a_sound_signature():
    state, person, stranger = running("mail"), Person(), Person()
    asked = ask(state, desk(person))
    assert answer(state, stranger.answer(asked, "approve"), desk(person)).published == []


def test_an_answer_is_used_once():
    state, person = running("mail"), Person()
    given = person.answer(ask(state, desk(person)), "approve")
    assert answer(state, given, desk(person)).published != []
    assert answer(state, given, desk(person)).published == []


def test_a_quorum_counts_different_people_and_one_no_is_enough():
    book = read_policies('{"default": {"quorum": 2}}')
    first, second = Person(), Person()
    at_desk = desk(first, second, policies=book)
    state = running("mail")
    asked = ask(state, at_desk)
    assert answer(state, first.answer(asked, "approve"), at_desk).published == []
    assert answer(state, first.answer(asked, "approve", reason="again"), at_desk).published == []
    assert only(answer(state, second.answer(asked, "approve"), at_desk), ActionDecided).decision == "allowed"
    again = ask(state, at_desk)
    assert again.approval_id != asked.approval_id
    denied = only(answer(state, second.answer(again, "deny"), at_desk), ActionDecided)
    assert (denied.decision, denied.by) == ("denied", "person")


def test_only_the_approvers_of_the_policy_may_decide():
    chosen, other = Person(), Person()
    at_desk = desk(chosen, other, policies=read_policies(f'{{"default": {{"approvers": ["{chosen.key_id}"]}}}}'))
    state = running("mail")
    asked = ask(state, at_desk)
    assert asked.approvers == [chosen.key_id]
    assert answer(state, other.answer(asked, "approve"), at_desk).published == []
    assert answer(state, chosen.answer(asked, "approve"), at_desk).published != []


def test_what_nobody_decides_expires_and_a_late_answer_is_refused():
    state, person = running("mail"), Person()
    asked = ask(state, desk(person))
    late = answer(state, person.answer(asked, "approve"), desk(person), at=24 * HOUR)
    assert late.published == []
    unit = task(state, at=24 * HOUR)
    on_expiry(unit, "expiry", desk=desk(person))
    decided = only(unit, ActionDecided)
    assert (decided.decision, decided.by, decided.grant) == ("expired", "policy", None)
    assert state.approvals == {}


def test_two_steps_of_a_task_wait_at_the_same_time_and_expire_each_in_its_turn():
    state, person = running("mail", "mail"), Person()
    first = ask(state, desk(person))
    unit = task(state, at=HOUR)
    on_action_proposed(unit, action("s1"), desk=desk(person))
    second = only(unit, ApprovalRequested)
    assert unit.timers["expiry"] == first.expires_at
    expiring = task(state, at=24 * HOUR)
    on_expiry(expiring, "expiry", desk=desk(person))
    assert only(expiring, ActionDecided).step == "s0"
    assert expiring.timers["expiry"] == second.expires_at
    decided = only(answer(state, person.answer(second, "approve"), desk(person), at=24 * HOUR), ActionDecided)
    assert decided.decision == "allowed"
    # the deadline stood still from the first question to the last answer
    assert state.deadline == NOON + 34 * HOUR


def test_the_same_question_is_asked_once():
    state = running("mail")
    ask(state, desk())
    unit = task(state)
    on_action_proposed(unit, action(), desk=desk())
    assert unit.published == []


def test_an_unknown_outcome_goes_to_a_person_whatever_the_policy_allows():
    state, person = running("look"), Person()
    asked = ask(state, desk(person), tool="look", reason="outcome_unknown")
    assert asked.question == "did_it_happen"
    decided = only(answer(state, person.answer(asked, "not_happened"), desk(person)), ActionDecided)
    assert (decided.decision, decided.grant) == ("not_happened", None)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"step": "s7"}, "no such step"),
        ({"plan_version": 2}, "no such step"),
        ({"tool": "note"}, "no such step"),
        ({"args_hash": "sha256:other"}, "args_hash"),
        ({"args": {"to": 5}}, "do not fit"),
        ({"args": {"to": {"ref": "s0"}}}, "do not fit"),
        ({"args": {"to": "x", "bcc": "y"}}, "do not fit"),
    ],
)
def test_an_action_that_is_not_in_the_verified_plan_or_does_not_fit_is_denied(changed: dict[str, Any], why: str):
    unit = task(running("mail"))
    on_action_proposed(unit, action(**changed), desk=desk())
    decided = only(unit, ActionDecided)
    assert (decided.decision, decided.by) == ("denied", "policy")
    assert why in decided.reason


def test_an_action_with_a_number_that_json_has_no_word_for_is_denied():
    event = action()
    unread = event.data.model_copy(update={"args": {"to": float("nan")}})
    unit = task(running("mail"))
    on_action_proposed(unit, received(unread), desk=desk())
    assert only(unit, ActionDecided).decision == "denied"


def test_the_risk_is_read_from_the_declaration_not_from_the_proposal():
    unit = task(running("mail"))
    on_action_proposed(unit, action(risk="read", effect="read", reason="no_grant"), desk=desk())
    assert isinstance(unit.published[0], ApprovalRequested)


def test_an_action_after_the_deadline_is_denied():
    unit = task(running("look"), at=10 * HOUR)
    on_action_proposed(unit, action(tool="look", reason="grant_expired"), desk=desk())
    assert only(unit, ActionDecided).decision == "denied"


def test_a_cancel_closes_what_waits_and_swallows_what_comes_later():
    state, person = running("mail"), Person()
    asked = ask(state, desk(person))
    unit = task(state)
    on_cancel_requested(unit, received(CancelRequested(task_id="t1")))
    assert (unit.closed, unit.published, state.approvals) == (True, [], {})
    assert answer(state, person.answer(asked, "approve"), desk(person)).ignored
    again = task(state)
    on_plan_proposed(again, proposed(version=2), desk=desk())
    on_action_proposed(again, action(), desk=desk())
    assert again.published == []


def test_a_cancel_before_its_plan_leaves_a_mark_that_swallows_the_plan():
    early = task()
    on_cancel_requested(early, received(CancelRequested(task_id="t1")))
    late = task(early.state)
    on_plan_proposed(late, proposed(), desk=desk())
    assert (early.closed, early.ignored, late.published) == (True, None, [])


def test_a_task_is_forgotten_some_time_after_its_deadline():
    unit = task()
    on_plan_proposed(unit, proposed(), desk=desk())
    assert unit.timers == {"end": NOON + 11 * HOUR}
    on_end(unit, "end")
    assert unit.closed
    assert unit.kind.tombstone(unit.state) == SafetyTask(phase="ended", plan_version=1)


def test_an_answer_for_a_task_nobody_knows_creates_nothing():
    state, person = running("mail"), Person()
    given = person.answer(ask(state, desk(person)), "approve")
    unit = task()
    on_approval_decided(unit, received(given), desk=desk(person))
    assert unit.ignored


def test_large_arguments_are_shown_in_the_event_and_not_kept_in_state():
    state = running("look")
    book = read_policies('{"default": {"ask_tools": ["look"]}}')
    big = {"text": "x" * 5_000}
    asked = ask(state, desk(policies=book), tool="look", args=big, reason="no_grant")
    assert asked.args == big
    assert [one.args for one in state.approvals.values()] == [None]
