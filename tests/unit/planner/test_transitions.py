"""The table of the task, cell by cell: every phase meets every event."""

from collections.abc import Callable
from typing import get_args

import pytest

from raa_planner.domain.scheduler import Policy
from raa_planner.domain.task import Phase
from raa_planner.domain.transitions import IGNORED, TRANSITIONS, Incoming, decide
from raa_planner.handlers import HORIZON, TURN
from raa_planner.standing import APPROVAL, DEADLINE, STALLED
from raa_schemas.task import TaskDone
from tests.unit.planner.way import Way, handlers_of, plan

FULL = Policy(total=1)


def queued() -> Way:
    handlers = handlers_of(FULL)
    Way(handlers, "other").created()
    return Way(handlers).created()


def ended() -> Way:
    way = Way().to_verifying().ready().step().reflected()
    assert way.done.outcome == "succeeded"
    return way


PHASES: dict[Phase, Callable[[], Way]] = {
    "new": Way,
    "marked": lambda: Way().cancelled(),
    "queued": queued,
    "preparing": lambda: Way().created(),
    "planning": lambda: Way().to_planning(),
    "verifying": lambda: Way().to_verifying(),
    "running": lambda: Way().to_running(),
    "reflecting": lambda: Way().to_reflecting(),
    "ended": ended,
}
EVENTS: dict[Incoming, Callable[[Way], Way]] = {
    "created": lambda way: way.created(),
    "cancel": lambda way: way.cancelled(),
    "ready": lambda way: way.ready(),
    "rejected": lambda way: way.rejected(),
    "step": lambda way: way.step(),
    "reflected": lambda way: way.reflected(),
    "asked": lambda way: way.asked(),
    "decided": lambda way: way.decided(),
    "dead": lambda way: way.stalled(),
    "solved": lambda way: way.solved(),
}
AFTER = {
    "admit": {"preparing", "ended"},
    "mark": {"marked"},
    "end": {"ended"},
    "begin": {"preparing"},
    "run": {"running"},
    "repair": {"planning"},
    "count": {"reflecting"},
    "judge": {"verifying", "running", "ended"},
    "wait": {"verifying", "running"},
    "plan": {"planning"},
    "propose": {"verifying"},
}


def test_every_phase_decides_every_event():
    assert set(TRANSITIONS) == {(p, i) for p in get_args(Phase) for i in get_args(Incoming)}


@pytest.mark.parametrize("phase", get_args(Phase))
def test_the_phases_of_the_tests_are_reached_by_events(phase: Phase):
    assert PHASES[phase]().state.phase == phase


@pytest.mark.parametrize("incoming", EVENTS)
@pytest.mark.parametrize("phase", get_args(Phase))
def test_an_event_of_the_bus_does_what_the_table_says(phase: Phase, incoming: Incoming):
    way = PHASES[phase]()
    before, said = way.state.model_dump(), len(way.said)
    EVENTS[incoming](way)
    decision = decide(phase, incoming)
    assert way.ignored == decision.ignored_because
    if decision.ignored_because is not None:
        assert way.state.model_dump() == before
        assert len(way.said) == said
    else:
        assert way.state.phase in AFTER.get(decision.act, {phase})
    assert len(way.all_of(TaskDone)) <= 1


@pytest.mark.parametrize("timer", [DEADLINE, STALLED, APPROVAL, TURN, HORIZON])
@pytest.mark.parametrize("phase", get_args(Phase))
def test_a_timer_does_what_the_table_says_and_is_always_stored(phase: Phase, timer: Incoming):
    way = PHASES[phase]()
    if phase in {"new", "ended"}:
        way.aggregate.version = 1
    way.aggregate.timers = {timer: way.now.timestamp()}
    before, said = way.state.model_dump(), len(way.said)
    way.fire()
    act = decide(phase, timer).act
    if act in IGNORED:
        assert way.state.model_dump() == before
        assert len(way.said) == said
    elif act == "end":
        assert way.state.phase == "ended"
        assert way.done.outcome in {"expired", "failed"}
    elif act == "forget":
        assert way.aggregate.closed


@pytest.mark.parametrize("phase", get_args(Phase))
def test_a_turn_begins_only_what_is_queued(phase: Phase):
    way = PHASES[phase]()
    unit = way._unit()
    under_way = way.handlers.begin(unit)
    assert under_way == (phase not in {"new", "marked", "ended"})
    assert unit.ignored == decide(phase, "begin").ignored_because


@pytest.mark.parametrize("incoming", ["ready", "rejected", "step", "reflected", "asked"])
def test_an_event_about_another_plan_version_is_ignored(incoming: str):
    way = Way().to_verifying(plan("1 + 1")).rejected().planned(plan("2 + 2"))
    assert way.state.plan_version == 2
    getattr(way, incoming)(version=1)
    assert way.ignored == "about plan version 1, not 2"
