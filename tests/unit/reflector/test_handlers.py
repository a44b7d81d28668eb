from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from raa_reflector import handlers
from raa_reflector.domain.case import CASE, Case
from raa_reflector.handlers import Patience
from raa_runtime.testing import NOON, completed, received, unit_for
from raa_runtime.unit import Unit
from raa_schemas.artifact import Source
from raa_schemas.cancel import CancelRequested
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.event import Event
from raa_schemas.plan import Limits, Plan, PlanReady, Step
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepDone, StepRecord
from raa_schemas.task import Constraints, TaskCreated
from tests.unit.reflector.stories import not_numeric, query, rows, source

PATIENCE = Patience(evidence=timedelta(seconds=30), fetch=timedelta(seconds=60), linger=timedelta(days=1))
DEADLINE = NOON + timedelta(hours=1)
CHECK = "result >= 0"
A = source("a.csv")


def task(memory: Any = "on") -> TaskCreated:
    return TaskCreated(
        task_id="t1",
        goal="mean of x",
        success_check=CHECK,
        constraints=Constraints(memory=memory, deadline_seconds=3600),
    )


def ready(version: int, steps: list[Step], sources: list[Source] | None = None) -> PlanReady:
    plan = Plan(version=version, steps=steps, result={"ref": steps[-1].id, "path": "/rows/0/mean"})
    return PlanReady(
        task_id="t1",
        plan=plan,
        attempt=version,
        goal="mean of x",
        success_check=CHECK,
        sources=sources or [A],
        limits=Limits(deadline=DEADLINE),
    )


def done(version: int, steps: list[Step], end: Any, *, value: Any = None, **more: Any) -> StepDone:
    failed = isinstance(end, ErrorInfo)
    records = [
        StepRecord(
            definition=step,
            outcome="failed" if failed else "succeeded",
            attempt=1,
            error=end if failed else None,
            output=None if failed else end,
            **more,
        )
        for step in steps
    ]
    return StepDone(
        task_id="t1",
        plan_version=version,
        step=steps[-1].id,
        tool=steps[-1].tool,
        run_seq=len(steps),
        run_status="failed" if failed else "succeeded",
        outcome="failed" if failed else "succeeded",
        result=value,
        manifest=records,
    )


def handle(unit: Unit[Case], event: Event) -> None:
    named = {TaskCreated: handlers.on_task_created, PlanReady: handlers.on_plan_ready, StepDone: handlers.on_step_done}
    handler: Any = named[type(event)]
    partial(handler, patience=PATIENCE)(unit, received(event))


def after(unit: Unit[Case]) -> Unit[Case]:
    """Store and load a case as the runtime would, so that nothing lives in memory only."""
    following = unit_for(CASE, unit.id, Case.model_validate_json(unit.state.model_dump_json(by_alias=True)), unit.now)
    following.aggregate.timers = dict(unit.aggregate.timers)
    following.aggregate.activities = dict(unit.aggregate.activities)
    following.aggregate.closed = unit.closed
    return following


def story(*events: Event) -> tuple[Unit[Case], list[ReflectionDone]]:
    unit = unit_for(CASE, "default/t1")
    published: list[Event] = []
    for event in events:
        unit = after(unit)
        handle(unit, event)
        published += unit.published
    return unit, [event for event in published if isinstance(event, ReflectionDone)]


PLAIN = [query("a.csv", "x")]
MENDED = [query("a.csv", "x", {"decimal": ","})]
COMMA = not_numeric("x", ("9,9", 9, "2,6"))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_a_run_is_judged_once_in_whatever_order_its_evidence_comes(order: tuple[int, ...]) -> None:
    events = [task(), ready(1, PLAIN), done(1, PLAIN, rows(3), value=3)]
    unit, reflections = story(*(events[place] for place in order))
    assert [event.verdict for event in reflections] == ["accept"]
    assert reflections[0].checked
    assert not reflections[0].partial_evidence
    assert unit.closed


def test_attempts_of_a_task_are_compared_across_stored_units() -> None:
    unit, reflections = story(
        task(), ready(1, PLAIN), done(1, PLAIN, COMMA), ready(2, MENDED), done(2, MENDED, rows(3), value=3)
    )
    assert [event.verdict for event in reflections] == ["replan", "accept"]
    assert [lesson.evidence.failed for lesson in reflections[1].lessons] == [["v1/q"]]
    assert reflections[1].lessons[0].evidence.task_id == "t1"
    assert reflections[0].episode.error_code == "not_numeric"
    assert reflections[1].episode.family == "table.aggregate"
    assert unit.closed


def test_a_task_with_memory_off_learns_nothing() -> None:
    _, reflections = story(
        task("off"), ready(1, PLAIN), done(1, PLAIN, COMMA), ready(2, MENDED), done(2, MENDED, rows(3), value=3)
    )
    assert reflections[1].lessons == []
    assert {event.memory for event in reflections} == {"off"}


def test_steps_before_the_last_create_nothing() -> None:
    unit = unit_for(CASE, "default/t1")
    handle(unit, done(1, PLAIN, rows(3)).model_copy(update={"run_status": "running"}))
    assert unit.ignored


def test_a_second_end_of_a_judged_run_is_ignored() -> None:
    unit, _ = story(task(), ready(1, PLAIN), done(1, PLAIN, COMMA))
    for late in (done(1, PLAIN, rows(3), value=3), ready(1, PLAIN)):
        again = after(unit)
        handle(again, late)
        assert again.ignored
        assert not again.published


def test_missing_evidence_is_waited_for_from_the_end_of_the_run() -> None:
    unit, reflections = story(task(), ready(1, PLAIN))
    assert handlers.PARTIAL not in unit.timers
    unit, reflections = story(task(), done(1, PLAIN, rows(3), value=3))
    assert reflections == []
    assert unit.timers[handlers.PARTIAL] == NOON + PATIENCE.evidence


def test_partial_evidence_is_judged_but_teaches_nothing() -> None:
    unit, _ = story(task(), ready(1, PLAIN), done(1, PLAIN, COMMA), done(2, MENDED, rows(3), value=3))
    unit = after(unit)
    handlers.on_partial(unit, handlers.PARTIAL)
    [event] = unit.published
    assert isinstance(event, ReflectionDone)
    assert (event.verdict, event.partial_evidence, event.lessons, event.checked) == ("accept", True, [], True)
    assert event.label.confidence == 0.5


def test_a_run_of_which_nothing_else_arrived_is_given_up() -> None:
    unit, _ = story(done(1, PLAIN, rows(3), value=3))
    handlers.on_partial(unit, handlers.PARTIAL)
    [event] = unit.published
    assert isinstance(event, ReflectionDone)
    assert (event.verdict, event.memory) == ("give_up", "off")
    assert "neither task.created nor plan.ready" in event.reason


def test_large_outputs_are_fetched_before_judging() -> None:
    steps = [query("a.csv", "x", {"missing": {"ref": "look", "path": "/columns/0/suspects"}}, step="q")]
    look = Step(id="look", tool="table.profile", args={"table": {"file": "a.csv"}, "columns": ["x"]})
    end = done(2, steps, rows(3), value=3)
    assert end.manifest is not None
    looked = StepRecord(definition=look, outcome="succeeded", attempt=1, output_ref="blob:sha256/" + "0" * 64)
    end = end.model_copy(update={"manifest": [looked, *end.manifest]})
    first = done(1, PLAIN, rows(-3), value=-3)
    unit, reflections = story(task(), ready(1, PLAIN), first, ready(2, [look, *steps]), end)
    assert len(reflections) == 1
    [activity] = unit.activities.values()
    assert activity.args == {"plan_version": 2, "references": {"look": looked.output_ref}}

    found = {"look": {"columns": [{"name": "x", "suspects": [-99]}]}}
    handlers.on_fetched(unit, completed(unit, activity.id, found))
    event = unit.published[-1]
    assert isinstance(event, ReflectionDone)
    assert [lesson.then for lesson in event.lessons] == [{"args": {"table": {"read": {"missing": [-99]}}}}]


def test_a_large_result_is_fetched_if_the_check_looks_at_it() -> None:
    end = done(1, PLAIN, rows(3)).model_copy(update={"result_ref": "blob:sha256/" + "1" * 64})
    unit, reflections = story(task(), ready(1, PLAIN), end)
    assert reflections == []
    [activity] = unit.activities.values()
    handlers.on_fetched(unit, completed(unit, activity.id, {"#result": 7}))
    event = unit.published[-1]
    assert isinstance(event, ReflectionDone)
    assert (event.verdict, event.checked, event.partial_evidence) == ("accept", True, False)


def test_a_result_that_cannot_be_bound_is_planned_again_once() -> None:
    problem = error("unbound_reference", "the plan's result: '/rows/9' points at nothing; correct its pointer")
    failed = [
        done(version, PLAIN, rows(3)).model_copy(update={"run_status": "failed", "error": problem})
        for version in (1, 2)
    ]
    _, reflections = story(task(), ready(1, PLAIN), failed[0], ready(2, PLAIN), failed[1])
    assert [event.verdict for event in reflections] == ["replan", "give_up"]
    assert reflections[0].episode.error_code == "unbound_reference"
    assert "points at nothing" in reflections[0].reason


def test_outputs_that_cannot_be_fetched_make_the_evidence_partial() -> None:
    look = Step(id="look", tool="table.profile", args={"table": {"file": "a.csv"}})
    end = done(1, [look, *PLAIN], rows(3), value=3)
    assert end.manifest is not None
    gone = end.manifest[0].model_copy(update={"output": None, "output_ref": "blob:sha256/" + "0" * 64})
    end = end.model_copy(update={"manifest": [gone, *end.manifest[1:]]})
    unit, _ = story(task(), ready(1, [look, *PLAIN]), end)
    [activity] = unit.activities.values()
    handlers.on_fetched(unit, completed(unit, activity.id, outcome="failed"))
    event = unit.published[-1]
    assert isinstance(event, ReflectionDone)
    assert (event.verdict, event.partial_evidence) == ("accept", True)


def test_a_cancel_closes_the_case_even_before_its_task() -> None:
    for events in ([], [task(), ready(1, PLAIN)]):
        unit, _ = story(*events)
        handlers.on_cancel_requested(unit, received(CancelRequested(task_id="t1")))
        assert unit.closed
        late = after(unit)
        handle(late, done(1, PLAIN, rows(3), value=3))
        assert late.ignored


def test_a_case_wakes_some_time_after_the_end_of_its_task_and_only_closes() -> None:
    unit, reflections = story(task(), ready(1, PLAIN))
    assert unit.timers == {handlers.END: DEADLINE + PATIENCE.linger}
    handlers.on_end(unit, handlers.END)
    assert unit.closed
    assert not unit.published
    assert reflections == []


def test_an_open_case_always_has_a_timer() -> None:
    failed = [task(), ready(1, PLAIN), done(1, PLAIN, COMMA)]
    for events in ([task()], [ready(1, PLAIN)], [done(1, PLAIN, rows(3))], failed):
        unit, _ = story(*events)
        assert unit.timers or unit.closed


def test_the_tombstone_remembers_only_that_the_task_ended() -> None:
    unit, _ = story(task(), ready(1, PLAIN), done(1, PLAIN, rows(3), value=3))
    assert CASE.tombstone(unit.state).model_dump(exclude_defaults=True) == {"phase": "ended"}


CANCEL = CancelRequested(task_id="t1")
EVENTS: list[Event] = [
    task(),
    ready(1, PLAIN),
    done(1, PLAIN, COMMA),
    ready(2, MENDED),
    done(2, MENDED, rows(3), value=3),
]
STATES: dict[str, list[Event]] = {
    "unknown": [],
    "task seen": [task()],
    "plan seen": [task(), ready(1, PLAIN)],
    "run waits": [done(1, PLAIN, COMMA)],
    "judged": [task(), ready(1, PLAIN), done(1, PLAIN, COMMA)],
    "next plan": [task(), ready(1, PLAIN), done(1, PLAIN, COMMA), ready(2, MENDED)],
    "ended": [task(), ready(1, PLAIN), done(1, PLAIN, rows(3), value=3)],
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", [*EVENTS, CANCEL], ids=lambda event: event.event_type())
def test_every_event_is_decided_in_every_state(state: str, event: Event) -> None:
    unit, _ = story(*STATES[state])
    unit = after(unit)
    if isinstance(event, CancelRequested):
        handlers.on_cancel_requested(unit, received(event))
    else:
        handle(unit, event)
    assert unit.ignored or unit.closed or unit.timers
    assert len([one for one in unit.published if isinstance(one, ReflectionDone)]) <= 1
    if state == "ended":
        assert unit.ignored


def test_outputs_that_come_after_a_later_plan_was_judged_change_nothing() -> None:
    look = Step(id="look", tool="table.profile", args={"table": {"file": "a.csv"}})
    end = done(1, [look, *PLAIN], rows(3), value=3)
    assert end.manifest is not None
    large = end.manifest[0].model_copy(update={"output": None, "output_ref": "blob:sha256/" + "0" * 64})
    end = end.model_copy(update={"manifest": [large, *end.manifest[1:]]})
    unit, reflections = story(task(), ready(1, [look, *PLAIN]), end, ready(2, PLAIN), done(2, PLAIN, COMMA))
    assert [event.plan_version for event in reflections] == [2]
    [activity] = unit.activities.values()
    unit.published.clear()
    handlers.on_fetched(unit, completed(unit, activity.id, {"look": {}}))
    assert (unit.published, unit.state.fetching) == ([], [])
