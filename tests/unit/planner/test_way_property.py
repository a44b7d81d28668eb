"""Whatever order events come in: no handler raises, a task ends in one task.done, and every loop ends."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raa_planner.domain.admission import TRIES_PER_ATTEMPT
from raa_planner.domain.scheduler import Policy
from raa_planner.handlers import PLAN, PREPARE
from raa_schemas.errors import error
from raa_schemas.plan import PlanProposed
from raa_schemas.redrive import RedriveOutcome
from raa_schemas.task import Constraints, TaskDone
from tests.unit.planner.way import NOON, Way, handlers_of, lesson, plan

ATTEMPTS = 2


def _running(way: Way, kind: str) -> bool:
    return any(activity.kind == kind for activity in way.aggregate.activities.values())


def _create(way: Way, number: int) -> None:
    given_plan = plan() if number == 3 else None
    limits: dict[str, Any] = {"budget_usd": 1} if number == 2 else {}
    way.created(
        constraints=Constraints(max_attempts=ATTEMPTS, memory="off" if number == 1 else "on", **limits), plan=given_plan
    )


def _prepare(way: Way, number: int) -> None:
    if _running(way, PREPARE):
        if number == 3:
            way.complete(PREPARE, outcome="failed", problem=error("claim_gone"))
        else:
            way.prepared()


def _plan(way: Way, number: int) -> None:
    if not _running(way, PLAN):
        return
    if number == 0:
        way.planned(garbage="?")
    elif number == 1 and way.now > NOON:
        way.complete(PLAN, outcome="unknown")
    else:
        way.planned(plan(str(number)), cost_microusd=300_000)


def _fire(way: Way, _: int) -> None:
    if way.aggregate.timers:
        way.fire()


def _version(way: Way, number: int) -> int:
    return max(1, way.state.plan_version - (number == 3))


SOLVED: list[RedriveOutcome] = ["handled", "ignored", "failed", "dropped"]
ACTIONS: dict[str, Callable[[Way, int], Any]] = {
    "create": _create,
    "prepare": _prepare,
    "plan": _plan,
    "fire": _fire,
    "ready": lambda way, n: way.ready(_version(way, n)),
    "reject": lambda way, n: way.rejected(version=_version(way, n)),
    "step": lambda way, n: way.step(
        ["running", "succeeded", "failed", "failed"][n], version=_version(way, n), cost=100_000, retries_used=n
    ),
    "reflect": lambda way, n: way.reflected(
        ["accept", "replan", "give_up", "replan"][n], version=_version(way, n), lessons=[lesson()]
    ),
    "ask": lambda way, n: way.asked(f"a{n}", version=_version(way, n)),
    "decide": lambda way, n: way.decided(f"a{n}", verdict=["approve", "deny", "happened", "give_up"][n]),
    "stall": lambda way, n: way.stalled(f"a{n}"),
    "lost": lambda way, n: way.stalled(f"a{n}", "planner", "task.created"),
    "solve": lambda way, n: way.solved(f"a{n}", SOLVED[n]),
    "cancel": lambda way, _: way.cancelled(),
    "wait": lambda way, n: way.later(10.0**n),
}
USUAL = ["plan", "ready", "step", "reflect", "prepare", "create"]
EVENTS = st.lists(st.tuples(st.sampled_from([*ACTIONS, *USUAL, *USUAL]), st.integers(0, 3)), max_size=60)


@given(EVENTS, st.booleans())
def test_any_sequence_of_events_ends_in_at_most_one_task_done(events: list[tuple[str, int]], busy: bool):
    handlers = handlers_of(Policy(total=1))
    if busy:
        Way(handlers, "other").created()
    way = Way(handlers)
    last_tries = None
    for name, number in events:
        ACTIONS[name](way, number)
        assert len(way.all_of(TaskDone)) == (way.phase == "ended")
        assert way.state.executed <= ATTEMPTS
        assert last_tries is None or way.state.tries_left <= last_tries
        last_tries = way.state.tries_left if way.state.request else None
        assert way.phase == "new" or way.aggregate.closed or way.aggregate.timers, "somebody has to wake it"


@given(EVENTS)
def test_left_alone_every_task_that_was_created_ends(events: list[tuple[str, int]]):
    way = Way(handlers_of(Policy(total=1)))
    _create(way, 0)
    for name, number in events:
        ACTIONS[name](way, number)
    for _ in range(1_000):
        if way.phase == "ended":
            break
        way.fire()
    assert way.done.outcome
    assert way.aggregate.closed


@given(st.lists(st.sampled_from(["reject", "fail", "check", "garbage"]), min_size=40, max_size=40))
def test_a_model_that_always_fails_is_asked_a_bounded_number_of_times(failures: list[str]):
    way = Way().created(constraints=Constraints(max_attempts=ATTEMPTS)).prepared()
    questions = 0
    for number, failure in enumerate(failures):
        if way.phase == "ended":
            break
        questions += 1
        if failure == "garbage":
            way.planned(garbage="?")
            continue
        way.planned(plan(str(number)))
        if failure == "reject":
            way.rejected()
        else:
            way.ready().step("failed" if failure == "fail" else "succeeded").reflected("replan")
    assert way.done.outcome == "failed"
    assert questions <= TRIES_PER_ATTEMPT * ATTEMPTS + 1
    assert len(way.all_of(PlanProposed)) <= questions
