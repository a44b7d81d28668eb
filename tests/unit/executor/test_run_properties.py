"""What holds for every run: random plans, finish orders, failures, conflicts, duplicates and cancels."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raa_executor.domain.moves import Publish
from raa_schemas.plan import Plan, Step
from raa_schemas.step import StepReady
from tests.unit.executor.plans import World, artifact, plan_ready, ref

OUTCOMES = ["succeeded"] * 8 + ["failed", "outcome_unknown"]
REFERENCE = "blob:sha256/" + "0" * 64


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any acyclic plan of up to nine steps, whose edges are references and `after`, listed in any order."""
    count = draw(st.integers(1, 9))
    steps = []
    for number in range(count):
        before = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        args: dict[str, Any] = {}
        after = []
        for other in sorted(before):
            if draw(st.booleans()):
                args[f"x{other}"] = ref(f"s{other}", draw(st.sampled_from(["", "/value", "/value", "/missing"])))
            else:
                after.append(f"s{other}")
        steps.append(Step(id=f"s{number}", tool="calculate", args=args, after=after))
    result = ref(f"s{draw(st.integers(0, count - 1))}", draw(st.sampled_from(["", "/value", "/missing"])))
    return Plan(steps=draw(st.permutations(steps)), result=result)


def play(data: st.DataObject, plan: Plan, world: World) -> None:
    """Let the world answer in any order until nothing is left to answer."""
    world.start(plan_ready(*plan.steps, result=plan.result))
    outputs: dict[str, Any] = {}
    for _ in range(200):
        open_steps = world.run.in_phase("running")
        binding = [*world.run.in_phase("binding"), *([None] if world.run.settled and world.run.complete else [])]
        if not open_steps and not binding:
            return
        choice = data.draw(st.sampled_from([*open_steps, *binding]))
        if data.draw(st.integers(0, 19)) == 0:
            world.cancel()
        if data.draw(st.integers(0, 9)) == 0:
            world.start(plan_ready(*plan.steps, result=plan.result))
        if choice in open_steps:
            answer(data, world, str(choice), outputs)
        elif choice in [*world.run.in_phase("binding"), *([None] if world.run.settled else [])]:
            if data.draw(st.integers(0, 9)) == 0 or any("/missing" in str(start) for start in world.moves[-40:]):
                world.bind_fails(choice)
            else:
                world.bind(choice, outputs)
    raise AssertionError("the run does not come to an end")


def answer(data: st.DataObject, world: World, name: str, outputs: dict[str, Any]) -> None:
    outputs[name] = {"value": data.draw(st.integers(0, 3))}
    by_reference = data.draw(st.integers(0, 3)) == 0
    more: dict[str, Any] = {"output_ref": REFERENCE} if by_reference else {}
    if data.draw(st.booleans()):
        more["changed"] = [artifact(data.draw(st.sampled_from(["x", "y"])), data.draw(st.sampled_from(["1", "2"])))]
    outcome = data.draw(st.sampled_from(OUTCOMES))
    told = outputs[name] if not by_reference or data.draw(st.booleans()) else None
    world.finish(name, told if outcome == "succeeded" else None, outcome, **more)  # type: ignore[arg-type]
    if data.draw(st.booleans()):
        assert world.finish(name, told, outcome, **more) == []  # type: ignore[arg-type]


@settings(deadline=None, max_examples=300)
@given(data=st.data(), plan=plans(), parallel=st.integers(1, 4))
def test_every_step_settles_exactly_once_and_exactly_one_event_is_terminal(
    data: st.DataObject, plan: Plan, parallel: int
):
    world = World(parallel)
    play(data, plan, world)
    assert sorted(done.step for done in world.done) == sorted(step.id for step in plan.steps)
    assert [done.terminal for done in world.done] == [False] * (len(plan.steps) - 1) + [True]
    assert [done.run_seq for done in world.done] == list(range(1, len(plan.steps) + 1))
    assert len(world.done[-1].manifest or []) == len(plan.steps)
    if world.done[-1].run_status == "succeeded":
        assert {done.outcome for done in world.done} == {"succeeded"}


@settings(deadline=None, max_examples=300)
@given(data=st.data(), plan=plans(), parallel=st.integers(1, 4))
def test_no_step_starts_before_what_it_needs_has_succeeded_or_after_a_failure_or_twice(
    data: st.DataObject, plan: Plan, parallel: int
):
    world = World(parallel)
    play(data, plan, world)
    needs = {step.id: {value["ref"] for value in step.args.values()} | set(step.after) for step in plan.steps}
    order = [move.event for move in world.moves if isinstance(move, Publish)]
    released = [event for event in order if isinstance(event, StepReady)]
    assert len({event.step for event in released}) == len(released)
    for event in released:
        # what one decision settles it tells after what it releases
        told = [done for done in world.done if order.index(done) < order.index(event)]
        assert all(done.outcome == "succeeded" for done in told)
        assert needs[event.step] <= world.succeeded_before(event)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), plan=plans(), parallel=st.integers(1, 4))
def test_never_more_than_the_parallel_limit_is_under_way(data: st.DataObject, plan: Plan, parallel: int):
    world = World(parallel)
    play(data, plan, world)
    assert world.most_under_way <= parallel
