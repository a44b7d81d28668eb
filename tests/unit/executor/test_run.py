"""A run by example: what it releases, tells and keeps."""

from datetime import timedelta

import pytest

from raa_executor.domain.moves import Start
from raa_executor.domain.run_state import Run
from raa_schemas.plan import Limits
from tests.unit.executor.plans import LIMITS, NOW, World, artifact, names, plan_ready, ref, step


def test_a_step_starts_with_arguments_bound_to_the_output_it_refers_to():
    world = World()
    world.start(plan_ready(step("a"), step("b", x=ref("a", "/value"))))
    assert names(world.ready) == ["a"]
    world.finish("a", {"value": 7})
    assert names(world.ready) == ["a", "b"]
    assert world.ready[1].args == {"x": 7}


def test_the_last_step_carries_result_manifest_and_artifacts():
    world = World()
    world.start(plan_ready(step("a"), step("b", "a"), result=ref("a", "/value"), manifest=[artifact("in.csv", "x")]))
    world.finish("a", {"value": 7}, changed=[artifact("report.md", "r")])
    world.finish("b", 1)
    first, last = world.done
    assert (first.run_status, first.terminal, first.result) == ("running", False, None)
    assert (last.run_status, last.result, last.steps_done, last.steps_total) == ("succeeded", 7, 2, 2)
    assert [record.definition.id for record in last.manifest or []] == ["a", "b"]
    assert [record.output for record in last.manifest or []] == [{"value": 7}, 1]
    assert [item.name for item in last.artifacts] == ["report.md"]


def test_at_most_the_parallel_limit_is_under_way():
    world = World(parallel=2)
    world.start(plan_ready(step("a"), step("b"), step("c")))
    assert names(world.ready) == ["a", "b"]
    world.finish("b")
    assert names(world.ready) == ["a", "b", "c"]


def test_after_a_failure_nothing_starts_siblings_finish_and_the_rest_is_skipped():
    world = World()
    world.start(plan_ready(step("a"), step("b"), step("c", "a", "b"), step("d", "c")))
    world.finish("a", outcome="failed")
    assert [(done.step, done.outcome, done.run_status) for done in world.done] == [
        ("a", "failed", "running"),
        ("c", "skipped", "running"),
        ("d", "skipped", "running"),
    ]
    world.finish("b", 1)
    assert (world.done[-1].step, world.done[-1].outcome, world.done[-1].run_status) == ("b", "succeeded", "failed")
    assert names(world.ready) == ["a", "b"]


def test_a_failure_names_the_step_and_keeps_its_typed_error():
    world = World()
    world.start(plan_ready(step("a")))
    world.finish("a", outcome="failed")
    assert world.done[0].error is not None
    assert (world.done[0].error.code, world.done[0].error.step_id) == ("tool_error", "a")


def test_a_reference_to_nothing_fails_the_step_without_starting_it():
    world = World()
    world.start(plan_ready(step("a"), step("b", x=ref("a", "/rows/0/mean"))))
    world.finish("a", {"rows": []})
    assert names(world.ready) == ["a"]
    assert (world.done[-1].outcome, world.done[-1].attempt, world.done[-1].run_status) == ("failed", 0, "failed")
    assert world.done[-1].error is not None
    assert world.done[-1].error.code == "unbound_reference"


def test_a_result_that_refers_to_nothing_fails_the_run_although_every_step_succeeded():
    world = World()
    world.start(plan_ready(step("a"), result=ref("a", "/missing")))
    world.finish("a", {})
    (last,) = world.done
    assert (last.outcome, last.run_status, last.result) == ("succeeded", "failed", None)
    assert last.error is not None
    assert last.error.code == "unbound_reference"


def test_an_output_that_lies_in_a_blob_is_bound_by_an_activity():
    world = World(parallel=1)
    world.start(plan_ready(step("a"), step("b"), step("c", x=ref("a", "/v")), result=ref("c")))
    world.finish("a", None, output_ref="blob:sha256/" + "0" * 64)
    world.finish("b", 2)
    assert names(world.ready) == ["a", "b"]
    (start,) = [move for move in world.moves if isinstance(move, Start)]
    assert start.args["outputs"] == {"a": {"ref": "blob:sha256/" + "0" * 64}}
    world.bind("c", {"a": {"v": 5}})
    assert world.ready[-1].args == {"x": 5}


def test_a_large_output_that_came_with_its_event_is_bound_at_once():
    world = World()
    world.start(plan_ready(step("a"), step("b", x=ref("a", "/v"))))
    world.finish("a", {"v": 5, "pad": "x" * 5000}, output_ref="blob:sha256/" + "0" * 64)
    assert world.ready[-1].args == {"x": 5}
    assert world.run.progress["a"].output is None


def test_a_large_result_is_bound_by_an_activity_and_only_then_the_run_ends():
    world = World()
    world.start(plan_ready(step("a"), result=ref("a")))
    world.finish("a", None, output_ref="blob:sha256/" + "0" * 64)
    assert world.done == []
    world.bind(None, {"a": {"big": 1}})
    assert [(done.run_status, done.result) for done in world.done] == [("succeeded", {"big": 1})]


def test_a_blob_that_is_gone_fails_the_step_that_needs_it():
    world = World()
    world.start(plan_ready(step("a"), step("b", x=ref("a"))))
    world.finish("a", None, output_ref="blob:sha256/" + "0" * 64)
    world.bind_fails("b")
    assert [(done.step, done.outcome) for done in world.done] == [("a", "succeeded"), ("b", "failed")]
    assert world.done[-1].run_status == "failed"


def test_a_step_sees_the_files_that_earlier_steps_wrote():
    world = World(parallel=1)
    world.start(plan_ready(step("a"), step("b", "a"), manifest=[artifact("in.csv", "1"), artifact("x.md", "old")]))
    world.finish("a", changed=[artifact("x.md", "new")])
    assert {item.name: item.sha256 for item in world.ready[1].manifest} == {
        "in.csv": artifact("in.csv", "1").sha256,
        "x.md": artifact("x.md", "new").sha256,
    }


def test_two_parallel_steps_that_write_one_path_differently_are_a_conflict():
    world = World()
    world.start(plan_ready(step("a"), step("b")))
    world.finish("a", changed=[artifact("x.md", "one")])
    world.finish("b", changed=[artifact("x.md", "two")])
    last = world.done[-1]
    assert (last.outcome, last.run_status) == ("failed", "failed")
    assert last.error is not None
    assert (last.error.code, last.error.details) == ("workspace_conflict", {"path": "x.md"})
    assert [item.sha256 for item in last.artifacts] == [artifact("x.md", "one").sha256]


def test_two_parallel_steps_that_write_the_same_bytes_are_none():
    world = World()
    world.start(plan_ready(step("a"), step("b")))
    world.finish("a", changed=[artifact("x.md", "one")])
    world.finish("b", changed=[artifact("x.md", "one")])
    assert world.done[-1].run_status == "succeeded"


def test_a_step_may_overwrite_what_a_step_ordered_before_it_wrote_even_at_a_distance():
    world = World()
    world.start(plan_ready(step("a"), step("b", "a"), step("c", "b")))
    world.finish("a", changed=[artifact("x.md", "one")])
    world.finish("b")
    world.finish("c", changed=[artifact("x.md", "two")])
    assert world.done[-1].run_status == "succeeded"
    assert [item.sha256 for item in world.done[-1].artifacts] == [artifact("x.md", "two").sha256]


def test_cancel_stops_what_runs_settles_the_rest_and_ends_as_cancelled():
    world = World()
    world.start(plan_ready(step("a"), step("b", "a")))
    world.cancel()
    assert world.cancelled == ["a"]
    assert [(done.step, done.outcome) for done in world.done] == [("b", "cancelled")]
    world.finish("a", outcome="cancelled")
    assert (world.done[-1].step, world.done[-1].run_status) == ("a", "cancelled")
    assert world.closed


def test_cancel_while_the_result_is_bound_ends_the_run_at_once():
    world = World()
    world.start(plan_ready(step("a"), result=ref("a")))
    world.finish("a", None, output_ref="blob:sha256/" + "0" * 64)
    world.cancel()
    assert [done.run_status for done in world.done] == ["cancelled"]
    assert world.stopped == ["result/v1"]


def test_cancel_before_any_plan_leaves_a_closed_mark():
    world = World()
    world.cancel("too late")
    assert world.closed
    assert world.run.cancelled == "too late"


def test_a_newer_plan_version_replaces_the_run_and_late_outcomes_of_the_older_are_ignored():
    world = World()
    world.start(plan_ready(step("a"), step("b", "a")))
    world.start(plan_ready(step("a"), version=2))
    assert world.cancelled == ["a"]
    assert world.finish("a", 1, version=1) == []
    world.finish("a", 2, version=2)
    assert [(done.plan_version, done.run_seq, done.run_status) for done in world.done] == [(2, 1, "succeeded")]


@pytest.mark.parametrize("version", [1, 2])
def test_a_plan_version_that_is_not_newer_is_ignored(version: int):
    world = World()
    world.start(plan_ready(step("a"), version=2))
    assert world.start(plan_ready(step("z"), version=version)) == []


def test_a_run_that_ended_keeps_almost_nothing_and_still_takes_a_newer_plan():
    world = World()
    world.start(plan_ready(step("a")))
    world.finish("a")
    assert world.run.model_dump(exclude_defaults=True).keys() == {"version", "status", "limits"}
    world.start(plan_ready(step("b"), version=2))
    assert names(world.ready) == ["a", "b"]


def test_a_run_that_ended_closes_after_the_deadline_when_no_replan_can_come():
    world = World()
    world.start(plan_ready(step("a")))
    assert world.deadline == LIMITS.deadline
    world.finish("a")
    assert world.deadline == LIMITS.deadline + timedelta(days=1)
    world.pass_time(timedelta(days=2))
    assert world.closed


def test_a_run_that_waits_for_a_person_is_kept_beyond_the_deadline_but_not_for_ever():
    world = World()
    world.start(plan_ready(step("a")))
    world.pass_time(timedelta(hours=2))
    assert not world.closed
    assert world.deadline == NOW + timedelta(hours=3)
    world.pass_time(timedelta(days=8))
    assert world.closed


def test_a_plan_that_waits_in_a_circle_fails_instead_of_standing_still():
    world = World()
    world.start(plan_ready(step("a", "b"), step("b", "a")))
    assert [(done.outcome, done.run_status) for done in world.done] == [("failed", "running"), ("skipped", "failed")]
    assert world.done[0].error is not None
    assert world.done[0].error.code == "plan_invalid"


def test_an_unknown_outcome_fails_the_run_when_it_settles():
    world = World()
    world.start(plan_ready(step("a")))
    world.finish("a", outcome="outcome_unknown")
    assert (world.done[0].outcome, world.done[0].run_status) == ("outcome_unknown", "failed")


def test_retries_are_granted_from_the_counter_never_more_than_two_and_the_end_says_how_many_were_used():
    world = World()
    world.start(plan_ready(step("a"), step("b"), step("c"), limits=Limits(deadline=LIMITS.deadline, tries_left=3)))
    assert [event.retries for event in world.ready] == [2, 1, 0]
    world.finish("a", retries_used=2)
    world.finish("b")
    world.finish("c", retries_used=1)
    assert world.done[-1].retries_used == 3


def test_a_long_plan_with_full_outputs_and_errors_stays_far_below_a_megabyte():
    world = World(parallel=200)
    steps = [step(f"s{number}") for number in range(200)]
    world.start(plan_ready(*steps, limits=Limits(deadline=LIMITS.deadline, max_steps=200)))
    for number in range(199):
        world.finish(f"s{number}", "x" * 1000)
    assert len(world.run.model_dump_json()) < 400_000


def test_a_state_written_by_a_newer_release_keeps_the_fields_this_one_does_not_know():
    run = Run.model_validate({"version": 1, "colour": "blue", "progress": {"a": {"phase": "running", "mood": "good"}}})
    again = Run.model_validate_json(run.model_dump_json())
    assert again.model_dump()["colour"] == "blue"
    assert again.model_dump()["progress"]["a"]["mood"] == "good"
