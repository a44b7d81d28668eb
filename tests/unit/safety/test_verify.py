"""Which plans may run."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_executor.tools import calculate, files
from raa_safety.domain.policy import Policy
from raa_safety.domain.verify import MAX_FINDINGS, verify
from raa_schemas.plan import Finding, Limits, Plan, Step
from raa_schemas.tool import ToolSpec

SHIPPED = [
    value.spec
    for module in (calculate, files)
    for value in vars(module).values()
    if isinstance(getattr(value, "spec", None), ToolSpec)
]
TOOLS = {spec.name: spec for spec in SHIPPED} | {
    "any": ToolSpec(name="any", arguments={"type": "object"}, effect="read", risk="read"),
}
DEADLINE = datetime(2026, 5, 1, tzinfo=UTC)


def step(name: str, tool: str = "any", after: tuple[str, ...] = (), **args: Any) -> Step:
    return Step(id=name, tool=tool, args=args, after=list(after))


def found(*steps: Step, result: Any = None, policy: Policy | None = None, **limits: Any) -> list[Finding]:
    plan = Plan(steps=list(steps), result=result)
    return verify(plan, Limits(deadline=DEADLINE, **limits), TOOLS, policy or Policy())


def codes(*steps: Step, **rest: Any) -> list[str]:
    return [finding.code for finding in found(*steps, **rest)]


def test_a_sound_plan_has_no_findings():
    add = step("add", "calculate", expression="a + 1", values={"a": {"ref": "load", "path": "/rows/0/n"}})
    parts = ["x", {"ref": "add"}, {"literal": {"ref": "y"}}]
    write = step("write", "file.write", ("load",), path="out.md", parts=parts)
    assert found(step("load"), add, write, result={"ref": "add", "path": "/value"}) == []


@pytest.mark.parametrize(
    ("steps", "code", "where", "field", "hint"),
    [
        ([step("a"), step("a")], "duplicate_step", "a", "/id", "give each step its own id"),
        ([step("a", "calculat")], "unknown_tool", "a", "/tool", "did you mean 'calculate'?"),
        ([step("a", "calculate", expresion="1")], "bad_arguments", "a", "/args", "add 'expression': string"),
        ([step("a", "file.read", file=3)], "bad_arguments", "a", "/args/file", "give string"),
        ([step("load"), step("b", x=[{"ref": "laod"}])], "bad_reference", "b", "/args", "did you mean 'load'?"),
        ([step("a"), step("b", x={"ref": "a", "path": "rows.0"})], "bad_reference", "b", "/args", "write '/rows/0'"),
        ([step("a", after=("zzz",))], "bad_reference", "a", "/after", "use one of a"),
    ],
)
def test_each_mistake_names_step_field_and_repair(steps: list[Step], code: str, where: str, field: str, hint: str):
    (first, *_) = found(*steps)
    assert (first.code, first.step, first.field, first.hint) == (code, where, field, hint)


def test_all_mistakes_are_reported_at_once():
    bad = [step("a", "nope"), step("b", "calculate"), step("c", after=("d",)), step("d", x={"ref": "c"})]
    assert codes(*bad, result={"ref": "e"}) == ["unknown_tool", "bad_arguments", "cycle", "bad_reference"]


def test_a_cycle_over_references_and_after_is_named_by_its_path():
    (finding,) = found(step("a", after=("c",)), step("b", x={"ref": "a"}), step("c", x={"deep": [{"ref": "b"}]}))
    assert finding.code == "cycle"
    assert all(f"{name}" in finding.message for name in "abc")


def test_a_step_that_refers_to_itself_is_a_cycle():
    assert codes(step("a", x={"ref": "a"})) == ["cycle"]


def test_a_tool_outside_the_tasks_list_is_refused_and_the_allowed_ones_are_named():
    (finding,) = found(step("a", "file.list"), allowed_tools=["any"])
    assert (finding.code, finding.hint) == ("tool_not_allowed", "use one of any")


def test_a_tool_that_the_policy_denies_is_refused():
    assert codes(step("a"), policy=Policy(deny_tools=frozenset({"any"}))) == ["tool_denied"]


def test_an_empty_budget_and_too_many_steps_are_refused():
    assert codes(step("a"), step("b"), max_steps=1, budget_microusd=0) == ["too_many_steps", "budget_exhausted"]


def test_a_known_argument_beside_a_reference_is_still_checked():
    half = step("b", "file.write", path=7, parts=[{"ref": "a"}], decimals={"ref": "a"})
    assert [finding.field for finding in found(step("a"), half)] == ["/args/path"]


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"x": inner}, lambda inner: {"literal": inner}])
def test_arguments_nested_too_deeply_are_refused_not_followed(wrap: Any):
    deep: Any = 1
    for _ in range(200):
        deep = wrap(deep)
    assert codes(step("a", x=deep)) == ["bad_arguments"]
    assert codes(step("a"), result=deep) == ["bad_reference"]


def test_a_number_that_json_has_no_word_for_is_refused_however_it_came_in():
    unread = Step.model_construct(id="a", tool="any", args={"x": [float("nan")]}, after=[])
    plan = Plan.model_construct(version=1, steps=[unread], result=float("inf"))
    findings = verify(plan, Limits(deadline=DEADLINE), TOOLS, Policy())
    assert [finding.code for finding in findings] == ["bad_arguments", "bad_reference"]


def test_at_most_fifty_findings_are_reported():
    assert len(found(*[step(f"s{n}", "nope") for n in range(200)], max_steps=200)) == MAX_FINDINGS


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14)


@given(EDGES)
def test_a_plan_passes_exactly_if_its_steps_can_be_put_in_an_order(edges: list[tuple[int, int]]):
    waits = {n: {later for earlier, later in edges if earlier == n} for n in range(8)}
    left = dict(waits)
    while ready := [n for n, before in left.items() if not before & left.keys()]:
        for n in ready:
            del left[n]
    steps = [step(f"s{n}", x=[{"ref": f"s{m}"} for m in sorted(before)]) for n, before in waits.items()]
    assert (codes(*steps) == []) == (not left)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ref", "path", "literal", "x", "file", "parts"]), inner, max_size=3)
    ),
)


@given(
    st.lists(
        st.tuples(st.sampled_from([*TOOLS, "unknown"]), st.dictionaries(st.text(max_size=4), JSON, max_size=3)),
        min_size=1,
        max_size=4,
    ),
    JSON,
)
def test_any_plan_gets_the_same_findings_twice_and_never_an_exception(
    made: list[tuple[str, dict[str, Any]]], result: Any
):
    plan = Plan(steps=[Step(id=f"s{n}", tool=tool, args=args) for n, (tool, args) in enumerate(made)], result=result)
    limits = Limits(deadline=DEADLINE)
    assert verify(plan, limits, TOOLS, Policy()) == verify(plan, limits, TOOLS, Policy())


def test_fifty_steps_are_verified_in_milliseconds():
    steps = [step("s0")] + [
        step(f"s{n}", "calculate", expression="a+b", values={"a": {"ref": f"s{n - 1}"}, "b": 1}) for n in range(1, 50)
    ]
    begun = time.process_time()
    for _ in range(20):
        assert found(*steps, max_steps=50) == []
    # generous against a busy machine: the benchmark measures, this only catches what became quadratic
    assert (time.process_time() - begun) / 20 < 0.02
