"""The way of a task through the handlers: what it publishes, and how it ends."""

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest

from raa_planner.domain.admission import Rules
from raa_planner.domain.scheduler import Policy
from raa_planner.domain.task import Task
from raa_planner.handlers import PLAN, PREPARE, Patience
from raa_schemas.artifact import Artifact, Input, Source
from raa_schemas.cancel import CancelRequested
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.plan import PlanProposed
from raa_schemas.recall import Recalled
from raa_schemas.task import Constraints, TaskDone, TaskStatus
from tests.unit.planner.way import NOON, Way, failed_check, handlers_of, hypothesis, lesson, plan


def states(way: Way) -> list[str]:
    return [status.state for status in way.all_of(TaskStatus)]


# the straight way


def test_a_task_goes_from_created_to_done():
    way = Way().created(labels={"team": "a"}, correlation_id="c-1").later(1).prepared().planned()
    assert way.last(PlanProposed).plan.version == 1
    assert way.last(PlanProposed).plan.origin == "model"
    way.ready().later(2).step().reflected()
    done = way.done
    assert (done.outcome, done.result, done.attempts, done.checked) == ("succeeded", 2, 1, False)
    assert (done.labels, done.correlation_id) == ({"team": "a"}, "c-1")
    assert (done.durations.total_ms, done.durations.planning_ms, done.durations.running_ms) == (3000, 10, 2000)
    assert done.origin is not None
    assert done.origin.topic == "task.created"
    assert states(way) == ["planning", "verifying", "running", "reflecting", "ended"]
    assert way.aggregate.closed
    assert not way.aggregate.timers


def test_a_task_without_inputs_and_memory_goes_straight_to_the_model():
    way = Way().created(constraints=Constraints(memory="off"))
    assert [one.kind for one in way.aggregate.activities.values()] == [PLAN]


def test_a_client_plan_skips_the_model():
    way = Way().created(plan=plan())
    assert not way.aggregate.activities
    assert way.last(PlanProposed).plan.origin == "client"


def test_a_client_plan_with_inputs_takes_them_in_and_skips_recall_and_model():
    way = Way().created(plan=plan(), inputs=[Input(name="a.txt", data="hello")])
    (prepare,) = way.aggregate.activities.values()
    assert (prepare.kind, prepare.args["recall"]) == (PREPARE, False)
    artifact = Artifact(name="a.txt", sha256="a" * 64, size=5)
    way.prepared(manifest=[artifact])
    assert way.last(PlanProposed).manifest == [artifact]


def test_inline_data_is_kept_once():
    way = Way().created(inputs=[Input(name="a.txt", data="hello")])
    assert "hello" not in way.state.model_dump_json()
    (prepare,) = way.aggregate.activities.values()
    assert prepare.args["inputs"][0]["data"] == "hello"


def test_a_second_submission_of_a_task_publishes_nothing():
    way = Way().to_running()
    said = list(way.said)
    way.created(goal="something else")
    assert way.said == said
    assert way.state.asked.goal == "what is 1 + 1"


def test_the_question_to_the_model_has_a_key_of_its_attempt_and_repair():
    way = Way().to_planning()
    keys = [activity.key for activity in way.aggregate.activities.values()]
    way.planned(plan()).rejected()
    keys += [activity.key for activity in way.aggregate.activities.values()]
    way.planned(plan("3")).ready().step("failed").reflected("replan")
    keys += [activity.key for activity in way.aggregate.activities.values()]
    assert keys == ["default/t1/plan/1.0", "default/t1/plan/1.1", "default/t1/plan/2.0"]


# topics overtake each other


def test_a_step_that_is_done_before_plan_ready_is_read_counts_the_attempt_once():
    way = Way().to_verifying().step()
    assert (way.state.executed, way.phase) == (1, "reflecting")
    way.ready()
    assert way.state.executed == 1


def test_a_verdict_before_the_terminal_step_waits_for_it():
    way = Way().to_verifying().reflected()
    assert not way.all_of(TaskDone)
    way.step()
    assert (way.done.outcome, way.done.result, way.done.attempts) == ("succeeded", 2, 1)


# admission


@pytest.mark.parametrize(
    ("request_fields", "code"),
    [
        ({"success_check": "result >"}, "check_invalid"),
        ({"reply_to": "elsewhere"}, "reply_to_not_allowed"),
        ({"inputs": [Input(name="a")]}, "input_invalid"),
        ({"inputs": [Input(name="a", uri="http://somewhere/x")]}, "input_invalid"),
        ({"inputs": [Input(name="a", uri="file:/etc/passwd")]}, "input_outside_roots"),
    ],
)
def test_what_cannot_be_taken_up_is_rejected_with_a_reason(request_fields: dict[str, Any], code: str):
    way = Way().created(**request_fields)
    assert (way.done.outcome, way.error.code) == ("rejected", code)
    assert way.error.hint
    assert states(way) == ["ended"]
    assert way.aggregate.closed


def test_inputs_that_cannot_be_had_reject_the_task():
    way = Way().created(inputs=[Input(name="a", uri="blob:sha256/" + "a" * 64)])
    way.complete(PREPARE, outcome="failed", problem=error("claim_gone"))
    assert (way.done.outcome, way.error.code) == ("rejected", "claim_gone")


def test_the_reply_goes_to_its_topic_and_the_tenant_topic_too():
    handlers = handlers_of(rules=Rules(reply_topics={"my.replies"}), tenant_topics=True)
    way = Way(handlers).created(plan=plan(), reply_to="my.replies").ready().step().reflected()
    assert way.done.outcome == "succeeded"
    assert way.copies == ["my.replies", "tenants.default.task.done"]


# repairs


def test_a_rejected_plan_is_repaired_by_the_findings_and_costs_a_try():
    way = Way().to_verifying()
    left = way.state.tries_left
    way.rejected()
    (ask,) = way.aggregate.activities.values()
    assert ask.args["brief"]["rejection"]["findings"][0]["code"] == "bad_reference"
    assert way.state.tries_left == left - 1
    way.planned(plan("2")).ready()
    assert way.state.rejection is None
    assert way.state.executed == 1


def test_a_model_that_repeats_a_rejected_plan_ends_the_task():
    way = Way().to_verifying(plan()).rejected("unknown_tool").planned(plan())
    assert (way.done.outcome, way.error.code, way.done.attempts) == ("failed", "unknown_tool", 0)
    assert way.error.details["findings"]


def test_a_rejected_client_plan_ends_the_task_with_all_findings():
    way = Way().created(plan=plan()).rejected("cycle")
    assert (way.done.outcome, way.error.code) == ("failed", "plan_invalid")
    assert way.error.details["findings"][0]["code"] == "cycle"


def test_garbage_is_told_to_the_model_once():
    way = Way().to_planning().planned(garbage="no JSON")
    (ask,) = way.aggregate.activities.values()
    assert ask.args["brief"]["rejection"]["findings"][0]["code"] == "model_garbage"
    way.planned(garbage="still none")
    assert (way.done.outcome, way.error.code) == ("failed", "model_garbage")


def test_a_model_that_cannot_ends_the_task_with_its_reason():
    way = Way().to_planning().planned(cannot="the goal asks for a forecast")
    assert (way.error.code, way.error.message) == ("cannot", "the goal asks for a forecast")


@pytest.mark.parametrize(
    ("problem", "outcome", "code"),
    [
        (error("tool_timeout"), "failed", "model_unavailable"),
        (error("budget_exhausted"), "budget_exhausted", "budget_exhausted"),
        (error("internal"), "failed", "internal"),
    ],
)
def test_a_model_that_does_not_answer_ends_the_task(problem: ErrorInfo, outcome: str, code: str):
    way = Way().to_planning().complete(PLAN, outcome="failed", problem=problem)
    assert (way.done.outcome, way.error.code) == (outcome, code)


# attempts


def test_a_replan_shows_what_failed_and_uses_the_lessons_of_the_reflection_at_once():
    source = Source(name="a.csv", sha256="a" * 64, size=1)
    way = Way().created().prepared(sources=[source]).planned(plan("1")).ready().step("failed")
    way.reflected("replan", lessons=[lesson()], hypotheses=[hypothesis()])
    (ask,) = way.aggregate.activities.values()
    brief = ask.args["brief"]
    assert brief["earlier"][0]["failed_step"]["error"]["code"] == "not_numeric"
    assert brief["lessons"][0]["applies_to"] == ["a.csv"]
    way.planned(plan("2", lessons=["les_1", "les_invented"]))
    proposed = way.last(PlanProposed)
    assert (proposed.plan.version, proposed.plan.origin, proposed.attempt) == (2, "replan", 2)
    assert proposed.plan.lessons == proposed.lessons_shown == ["les_1"]
    assert proposed.hypotheses == [hypothesis()]
    way.ready().step().reflected(checked=True)
    assert (way.done.attempts, way.done.checked) == (2, True)
    assert (way.done.lessons_used, way.done.lessons_learned) == (["les_1"], ["les_1"])


def test_a_lesson_learned_again_replaces_the_recalled_one():
    recalled = Recalled(lesson=lesson(), applies_to=["old.csv"], why=["same_content"])
    way = Way().created().prepared(lessons=[recalled], sources=[Source(name="a.csv", sha256="a" * 64, size=1)])
    way.planned(plan("1")).ready().step("failed").reflected("replan", lessons=[lesson()])
    assert [one.applies_to for one in way.state.lessons] == [["a.csv"]]


def test_memory_off_uses_hypotheses_but_no_lessons():
    way = Way().created(constraints=Constraints(memory="off")).planned(plan("1")).ready().step("failed")
    way.reflected("replan", lessons=[lesson()], hypotheses=[hypothesis()], memory="off")
    (ask,) = way.aggregate.activities.values()
    assert ask.args["brief"]["lessons"] == []
    assert ask.args["brief"]["earlier"][0]["hypotheses"][0]["kind"] == "inspect_values"
    way.planned(plan("2")).ready().step().reflected(memory="off")
    assert way.done.lessons_learned == []
    assert not way.aggregate.marks


def test_attempts_are_bounded_and_the_last_failure_is_named():
    way = Way().to_running(constraints=Constraints(max_attempts=2), made=plan("1")).step("failed").reflected("replan")
    way.planned(plan("2")).ready().step("failed").reflected("replan")
    assert (way.done.outcome, way.error.code, way.done.attempts) == ("failed", "attempts_exhausted", 2)
    assert "sum" in way.error.message
    assert way.error.step_id == "sum"


def test_a_plan_equal_to_one_that_failed_ends_the_task():
    way = Way().to_running(made=plan()).step("failed").reflected("replan").planned(plan())
    assert (way.error.code, way.done.attempts) == ("no_new_plan", 1)


def test_a_failed_check_is_told_by_its_value():
    way = Way().to_running(made=plan()).step().reflected("replan", check=failed_check(), checked=True).planned(plan())
    assert way.error.message.endswith("the check 'result >= 0' does not hold: result is -34.2")


def test_giving_up_says_why():
    way = Way().to_running().step().reflected("give_up", check=failed_check(), checked=True)
    assert (way.done.outcome, way.error.code, way.error.message) == ("failed", "gave_up", "because")
    assert way.done.result is None


def test_a_failed_client_plan_ends_with_its_own_failure():
    way = Way().created(plan=plan()).ready().step("failed").reflected("replan")
    assert (way.done.outcome, way.error.code, way.error.step_id) == ("failed", "not_numeric", "sum")


def test_retries_of_steps_are_paid_from_the_tries():
    way = Way().to_running(constraints=Constraints(max_attempts=1))
    assert way.state.tries_left == 4
    way.step("failed", retries_used=3)
    assert way.state.tries_left == 1


def test_tries_run_out():
    way = Way().to_verifying(constraints=Constraints(max_attempts=1))
    for number in range(4):
        way.rejected().planned(plan(str(number)))
    way.rejected()
    assert (way.error.code, way.state.tries_left) == ("tries_exhausted", 0)


# budget, deadline, cancel


def test_a_run_beyond_the_budget_is_stopped():
    way = Way().to_running(constraints=Constraints(budget_usd=Decimal("0.001"))).step("running", cost=1_001)
    assert (way.done.outcome, way.error.code) == ("budget_exhausted", "budget_exhausted")
    assert way.done.cost_microusd == 1_001
    assert way.last(CancelRequested).requested_by == "planner"


def test_a_plan_refused_because_nothing_is_left_of_the_budget_asks_for_no_other_plan():
    way = Way().to_verifying(constraints=Constraints(budget_usd=Decimal(0))).rejected("budget_exhausted")
    assert (way.done.outcome, way.error.code) == ("budget_exhausted", "budget_exhausted")
    assert not way.aggregate.activities


def test_a_run_that_ended_beyond_the_budget_is_still_judged():
    way = Way().to_running(constraints=Constraints(budget_usd=Decimal("0.001"))).step(cost=2_000).reflected()
    assert way.done.outcome == "succeeded"


def test_the_model_is_told_what_is_left_of_the_budget():
    way = Way().to_planning(constraints=Constraints(budget_usd=Decimal("0.001"))).planned(plan(), cost_microusd=400)
    assert way.last(PlanProposed).limits.budget_microusd == 600
    way.rejected()
    (ask,) = way.aggregate.activities.values()
    assert ask.args["budget"] == 600


def test_the_deadline_counts_from_the_records_time():
    way = Way().created(at=NOON - timedelta(hours=1), constraints=Constraints(deadline_seconds=4_000))
    assert way.state.deadline == NOON + timedelta(seconds=400)
    assert Way().created(at=NOON - timedelta(days=2)).done.outcome == "expired"


def test_a_record_from_the_future_does_not_get_more_time():
    way = Way().created(at=NOON + timedelta(days=300))
    assert way.state.deadline == NOON + timedelta(days=1)


def test_the_deadline_ends_the_task_and_stops_what_runs():
    way = Way().to_running()
    assert way.fire() == "deadline"
    assert (way.done.outcome, way.error.code) == ("expired", "deadline_exceeded")
    assert way.last(CancelRequested).requested_by == "planner"


@pytest.mark.parametrize(("late", "outcome"), [(59, "failed"), (60, "expired"), (600, "expired")])
def test_a_failure_after_the_deadline_is_an_expiry_whatever_it_was_called_on_its_way(late: float, outcome: str):
    way = Way().to_running(constraints=Constraints(deadline_seconds=60)).later(late)
    way.step("failed", problem=error("grant_denied", "the task's deadline has passed")).reflected("give_up")
    assert way.done.outcome == outcome
    assert way.error.code == ("grant_denied" if outcome == "failed" else "deadline_exceeded")
    assert "the task's deadline has passed" in way.error.message


def test_what_succeeds_after_the_deadline_before_anybody_looked_at_the_clock_has_succeeded():
    way = Way().to_running(constraints=Constraints(deadline_seconds=60)).later(61).step().reflected()
    assert way.done.outcome == "succeeded"


def test_a_cancel_ends_the_task_and_its_activities():
    way = Way().to_planning().cancelled()
    assert (way.done.outcome, way.error.code) == ("cancelled", "cancelled")
    assert not way.aggregate.activities
    assert not way.all_of(CancelRequested)


def test_a_cancel_before_its_task_ends_it_at_once():
    way = Way().cancelled().created(correlation_id="c-2")
    assert (way.done.outcome, way.done.correlation_id) == ("cancelled", "c-2")
    assert not way.all_of(PlanProposed)


def test_a_mark_is_forgotten_at_the_horizon():
    way = Way().cancelled()
    assert way.aggregate.timers["horizon"] == (NOON + timedelta(days=7)).timestamp()
    way.fire()
    assert way.aggregate.closed
    assert not way.said
    way.created()
    assert way.done.outcome == "cancelled"


def test_a_task_that_comes_after_its_dead_letter_was_forgotten_ends_at_once():
    way = Way().stalled()
    way.fire()
    way.created()
    assert (way.done.outcome, way.error.code) == ("failed", "stalled")


# people and dead letters


def test_the_deadline_stands_still_while_a_person_is_asked():
    way = Way().to_running(constraints=Constraints(deadline_seconds=100)).later(40).asked(seconds=600)
    assert (way.told, way.status.waiting_until) == ("waiting_approval", way.now + timedelta(seconds=600))
    assert "deadline" not in way.aggregate.timers
    way.later(500).decided()
    assert way.told == "running"
    assert way.aggregate.timers["deadline"] == (NOON + timedelta(seconds=600)).timestamp()


def test_an_approval_nobody_decides_expires_and_the_clock_runs_on():
    way = Way().to_running(constraints=Constraints(deadline_seconds=100)).asked(seconds=600)
    assert way.fire() == "approval"
    assert way.aggregate.timers["deadline"] == (NOON + timedelta(seconds=700)).timestamp()
    assert way.fire() == "deadline"
    assert way.done.outcome == "expired"


def test_an_approval_needs_its_quorum_of_different_approvers():
    way = Way().to_running().asked(quorum=2, approvers=["key-1", "key-2"])
    way.decided(by="key-1").decided(by="key-1").decided(by="stranger").decided(by="key-2", args="other")
    assert way.state.approvals
    way.decided(by="key-2")
    assert not way.state.approvals


def test_one_denial_closes_a_question():
    assert not Way().to_running().asked(quorum=2).decided(verdict="deny").state.approvals


def test_a_decision_that_overtakes_its_question_leaves_the_clock_running():
    way = Way().to_running().decided().asked()
    assert not way.state.approvals
    assert "deadline" in way.aggregate.timers


def test_a_question_about_a_plan_that_is_left_behind_does_not_stop_the_clock():
    way = Way().to_verifying().asked().rejected()
    assert not way.state.approvals
    assert "deadline" in way.aggregate.timers
    assert way.told == "planning"


def test_the_settled_step_closes_its_question():
    way = Way().to_running().asked().step("running")
    assert not way.state.approvals
    assert way.told == "running"


def test_a_dead_letter_shows_until_its_redrive():
    way = Way().to_running().stalled()
    assert (way.told, way.status.waiting_until) == ("stalled", NOON + timedelta(hours=1))
    assert way.status.waiting_for == "a redrive of plan.ready a1 from executor.dlq"
    way.step("running")
    assert way.told == "stalled", "what else goes on does not solve it"
    way.solved()
    assert way.told == "running"
    assert "stalled" not in way.aggregate.timers


def test_each_of_several_dead_letters_has_to_be_solved():
    way = Way().to_running().stalled("a1").later(60).stalled("a2").solved("a1")
    assert (way.told, way.status.waiting_until) == ("stalled", NOON + timedelta(seconds=3660))
    way.solved("a2")
    assert way.told == "running"


def test_a_dead_letter_that_was_solved_before_it_was_read_about_stalls_nothing():
    way = Way().to_running().solved("a1").stalled("a1")
    assert way.ignored == "this dead letter is solved already"
    assert way.told == "running"


@pytest.mark.parametrize(("outcome", "told"), [("ignored", "running"), ("refused", "stalled"), ("failed", "running")])
def test_what_a_redrive_came_to_decides_whether_the_letter_still_holds(outcome: Any, told: str):
    assert Way().to_running().stalled().solved(outcome=outcome).told == told


def test_a_letter_that_dies_again_holds_the_task_up_by_its_new_name():
    way = Way().to_running().stalled("a1").later(10).stalled("a2").solved("a1", "failed")
    assert list(way.state.stalls) == ["a2"]
    assert way.status.waiting_until == NOON + timedelta(seconds=3610)


def test_dropping_the_letter_ends_the_task_and_says_who_did_what():
    way = Way().to_running().stalled().solved(outcome="dropped")
    assert (way.done.outcome, way.error.code) == ("failed", "stalled")
    assert "it was dropped: a drill" in way.error.message
    assert "--as-new-task --again`" in str(way.error.hint), "a letter that was decided about wants to be forced"


def test_dropping_a_letter_that_holds_nothing_up_changes_nothing():
    assert Way().to_running().solved("other", "dropped").told == "running"


def test_an_ended_task_tells_with_which_command_to_mend_it():
    way = Way().to_running().stalled()
    way.fire()
    assert way.error.hint is not None
    assert "raa dlq redrive --id a1 --as-new-task" in way.error.hint
    assert way.error.details == {"dead_letter_topic": "executor.dlq", "letter": "a1", "fingerprint": "f1"}


def test_the_window_for_a_redrive_is_a_setting():
    handlers = handlers_of(patience=Patience(redrive=timedelta(minutes=5)))
    way = Way(handlers).to_running().stalled()
    assert way.status.waiting_until == NOON + timedelta(minutes=5)


def test_a_task_that_died_on_its_way_to_the_planner_is_stalled_and_ends_unless_it_is_redriven():
    way = Way().stalled(group="planner", dead_type="task.created")
    assert (way.told, way.status.waiting_until) == ("stalled", NOON + timedelta(hours=1))
    assert way.fire() == "stalled"
    assert (way.done.outcome, way.error.code) == ("failed", "stalled")
    assert way.created().ignored == "the task has ended"


def test_a_task_that_died_on_its_way_to_the_planner_goes_on_by_its_redrive():
    way = Way().stalled(group="planner", dead_type="task.created").created().solved(group="planner")
    assert (way.phase, way.told) == ("preparing", "planning")


def test_a_task_that_died_on_its_way_to_the_planner_can_be_cancelled():
    way = Way().stalled(group="planner", dead_type="task.created").cancelled()
    assert way.done.outcome == "cancelled"


def test_another_letter_before_the_task_tells_nobody_anything():
    way = Way().stalled()
    assert (way.phase, way.said) == ("marked", [])
    way.solved()
    assert way.created().told == "planning"


def test_the_one_dead_letter_of_an_earlier_release_is_read():
    stored = {"phase": "running", "stall": {"dead_type": "step.done", "topic": "planner.dlq", "message": "m"}}
    task = Task.model_validate(stored)
    assert [stall.dead_type for stall in task.stalls.values()] == ["step.done"]
    assert "stall" not in task.model_dump()


def test_the_letter_of_a_group_of_an_earlier_release_is_cleared_by_progress():
    way = Way().to_running().stalled(None).step("running")
    assert way.told == "running"


def test_a_dead_letter_nobody_redrives_ends_the_task():
    way = Way().to_running().stalled()
    assert way.fire() == "stalled"
    assert (way.done.outcome, way.error.code) == ("failed", "stalled")
    assert "executor.dlq" in str(way.error.details)
    assert way.last(CancelRequested).requested_by == "planner"


def test_a_stall_never_outlives_the_deadline_and_names_the_dead_letter():
    way = Way().to_running(constraints=Constraints(deadline_seconds=60)).stalled()
    way.fire()
    assert (way.now, way.error.code) == (NOON + timedelta(seconds=60), "stalled")


def test_a_dead_letter_before_the_task_shows_when_the_task_comes():
    way = Way().stalled().created()
    assert way.told == "stalled"
    way.prepared().solved()
    assert way.told == "planning"


# the queue


def test_without_capacity_a_task_waits_and_looks_again_by_its_own_timer():
    handlers = handlers_of(Policy(total=1))
    first, second = Way(handlers, "first").created(), Way(handlers, "second").created()
    assert (second.phase, second.told, second.status.waiting_for) == ("queued", "admitted", "its turn")
    assert second.fire() == "turn"
    assert second.phase == "queued"
    assert first.phase == "preparing"
    handlers.queue.finish("default/first")
    second.fire()
    assert second.phase == "preparing"


def test_a_task_with_not_before_begins_at_that_time():
    at = NOON.astimezone(UTC) + timedelta(minutes=3)
    way = Way().created(constraints=Constraints(not_before=at))
    assert (way.phase, way.status.waiting_until) == ("queued", at)
    assert way.fire() == "turn"
    assert (way.now, way.phase) == (at, "preparing")


# memory


def test_a_reflection_is_marked_so_that_later_recalls_can_name_it():
    way = Way().to_reflecting().reflected()
    assert way.state.reflections == ["event-4"]
    assert way.aggregate.marks == {"reflected_at": NOON.timestamp()}


def test_degraded_memory_is_told_to_the_end():
    way = Way().created().prepared(memory_degraded=True).planned().ready().step().reflected()
    assert way.status.memory_degraded
    assert way.done.memory_degraded
