"""Decides whether a proposed plan may run: pure, deterministic, everything that is wrong at once.

It does not know who asks or what was decided before; what a tool may do at run time is the policy's question.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any, Final

from raa_safety.domain.json_schema import check_argument
from raa_safety.domain.policy import Policy
from raa_schemas.plan import MAX_ARGUMENT_DEPTH, Finding, Limits, Plan, Reference, Step, references
from raa_schemas.tool import ToolSpec

Tools = Mapping[str, ToolSpec]
MAX_FINDINGS: Final = 50  # a model that reads fifty mistakes repairs none of them better with more
_SHOWN_NAMES: Final = 12


def verify(plan: Plan, limits: Limits, tools: Tools, policy: Policy) -> list[Finding]:
    """List what is wrong with a plan, at most 50 findings; an empty list means that it may run."""
    return list(islice(_findings(plan, limits, tools, policy), MAX_FINDINGS))


def _findings(plan: Plan, limits: Limits, tools: Tools, policy: Policy) -> Iterator[Finding]:
    yield from _size(plan, limits)
    yield from _unique_ids(plan)
    known = {step.id for step in plan.steps}
    graph: dict[str, set[str]] = {}
    for step in plan.steps:
        yield from _tool(step, limits, tools, policy)
        if reason := _unusable(step.args):
            yield Finding(code="bad_arguments", message=reason, step=step.id, field="/args", hint="pass it as a file")
            continue
        referenced = list(references(step.args))
        graph[step.id] = known & {*step.after, *(reference.step for reference in referenced)}
        yield from _step_references(step, referenced, known)
        if step.tool in tools:
            yield from _arguments(step, tools[step.tool])
    yield from _acyclic(graph)
    yield from _result(plan, known)


def _size(plan: Plan, limits: Limits) -> Iterator[Finding]:
    if len(plan.steps) > limits.max_steps:
        yield Finding(
            code="too_many_steps",
            message=f"{len(plan.steps)} steps, the limit is {limits.max_steps}",
            hint="do more per step, or raise max_steps",
        )
    if limits.budget_microusd is not None and limits.budget_microusd <= 0:
        yield Finding(code="budget_exhausted", message="nothing is left of the task's budget", hint="raise budget_usd")


def _unique_ids(plan: Plan) -> Iterator[Finding]:
    seen: set[str] = set()
    for step in plan.steps:
        if step.id in seen:
            yield Finding(
                code="duplicate_step",
                message=f"two steps are called {step.id!r}",
                step=step.id,
                field="/id",
                hint="give each step its own id",
            )
        seen.add(step.id)


def _unusable(value: Any, depth: int = 0) -> str | None:
    """Say why a value cannot be hashed and signed: too deep (escaped literals count), or a number unknown to JSON."""
    if depth > MAX_ARGUMENT_DEPTH:
        return f"it is nested deeper than {MAX_ARGUMENT_DEPTH} levels"
    if isinstance(value, float) and not math.isfinite(value):
        return "it holds NaN or an infinity, which is not JSON"
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if reason := _unusable(item, depth + 1):
            return reason
    return None


def _tool(step: Step, limits: Limits, tools: Tools, policy: Policy) -> Iterator[Finding]:
    if step.tool not in tools:
        yield Finding(
            code="unknown_tool",
            message=f"there is no tool {step.tool!r}",
            step=step.id,
            field="/tool",
            hint=_near(step.tool, _allowed(tools, limits)),
        )
    elif limits.allowed_tools is not None and step.tool not in limits.allowed_tools:
        yield Finding(
            code="tool_not_allowed",
            message=f"this task may not use {step.tool!r}",
            step=step.id,
            field="/tool",
            hint=_near(step.tool, _allowed(tools, limits)),
        )
    elif policy.judge(tools[step.tool]) == "deny":
        yield Finding(
            code="tool_denied",
            message=f"the policy of this tenant denies {step.tool!r}",
            step=step.id,
            field="/tool",
            hint=_near(step.tool, _allowed(tools, limits)),
        )


def _allowed(tools: Tools, limits: Limits) -> list[str]:
    return [name for name in tools if limits.allowed_tools is None or name in limits.allowed_tools]


def _near(name: str, known: list[str]) -> str:
    """Offer the nearest known name, or the first few."""
    others = [one for one in known if one != name]
    close = difflib.get_close_matches(name, others, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of {', '.join(others[:_SHOWN_NAMES])}" if others else "no tool is allowed here"


def _step_references(step: Step, referenced: list[Reference], known: set[str]) -> Iterator[Finding]:
    for reference in referenced:
        yield from _reference(reference, known, step.id, "/args")
    for other in step.after:
        if other not in known:
            yield Finding(
                code="bad_reference",
                message=f"`after` names {other[:80]!r}, which is no step",
                step=step.id,
                field="/after",
                hint=_near(other[:80], sorted(known)),
            )


def _reference(reference: Reference, known: set[str], step: str | None, field: str) -> Iterator[Finding]:
    if reference.step not in known:
        yield Finding(
            code="bad_reference",
            message=f"a reference names {reference.step[:80]!r}, which is no step",
            step=step,
            field=field,
            hint=_near(reference.step[:80], sorted(known)),
        )
    if reference.path and not reference.path.startswith("/"):
        yield Finding(
            code="bad_reference",
            message=f"{reference.path[:80]!r} is no JSON pointer",
            step=step,
            field=field,
            hint=f"write {'/' + reference.path[:80].replace('.', '/')!r}",
        )


def _arguments(step: Step, tool: ToolSpec) -> Iterator[Finding]:
    for problem in check_argument(tool.arguments, step.args):
        yield Finding(
            code="bad_arguments",
            message=f"{problem.at or '/'}: {problem.message}",
            step=step.id,
            field=f"/args{problem.at}",
            hint=problem.hint,
        )


def _acyclic(graph: dict[str, set[str]]) -> Iterator[Finding]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        path = list(reversed(cycle.args[1]))
        yield Finding(
            code="cycle",
            message=f"these steps wait for each other: {' → '.join(path)}",
            step=path[0],
            hint="remove one of these references or `after` entries",
        )


def _result(plan: Plan, known: set[str]) -> Iterator[Finding]:
    if reason := _unusable(plan.result):
        yield Finding(code="bad_reference", message=reason, field="/result", hint="refer to a step")
        return
    for reference in references(plan.result):
        yield from _reference(reference, known, None, "/result")
