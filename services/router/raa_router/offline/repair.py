"""Repairs a plan that safety rejected, finding by finding; each repair only takes something away."""

from collections.abc import Mapping, Sequence
from typing import Any

from raa_router.offline.prompt import Prompt, mapping, mappings, strings, text_of
from raa_router.offline.request import NotUnderstoodError
from raa_router.offline.skeleton import PROFILE

Plan = dict[str, Any]
_TOOL_CODES = frozenset({"unknown_tool", "tool_not_allowed", "tool_denied"})


def repaired(plan: Plan, prompt: Prompt) -> Plan:
    """Return the plan without what the findings object to.

    Raises:
        NotUnderstoodError: the same plan was rejected, and no finding names anything that can be left out.
    """
    findings = mappings(prompt.rejected.get("findings"))
    rejected = mapping(prompt.rejected.get("plan"))
    if not findings:
        return plan
    mended = plan
    for finding in findings:
        mended = _without(mended, finding, prompt)
    if _content(mended) == _content(rejected):
        messages = dict.fromkeys(text_of(finding.get("message")) for finding in findings)
        reasons = "; ".join(message for message in messages if message) or "it was rejected"
        raise NotUnderstoodError(f"the goal asks for a plan that is not allowed: {reasons}")
    return mended


def _content(plan: Mapping[str, Any]) -> tuple[Any, Any]:
    steps = [
        (step.get("id"), step.get("tool"), step.get("args"), step.get("after") or [])
        for step in mappings(plan.get("steps"))
    ]
    return steps, plan.get("result")


def _without(plan: Plan, finding: Mapping[str, Any], prompt: Prompt) -> Plan:
    code, name = text_of(finding.get("code")), text_of(finding.get("step"))
    step = next((step for step in plan["steps"] if step["id"] == name), None)
    if step is None:
        return plan
    if code in _TOOL_CODES and step["tool"] == PROFILE and not _is_result(plan, name):
        return _unprofiled(plan, name)
    if code == "bad_arguments":
        args = _removed(step["args"], text_of(finding.get("field")), _required(prompt, step["tool"]))
        return _with_step(plan, step | {"args": args})
    if code in {"cycle", "bad_reference"} and step["after"]:
        return _with_step(plan, step | {"after": []})
    return plan


def _with_step(plan: Plan, changed: Mapping[str, Any]) -> Plan:
    return plan | {"steps": [changed if step["id"] == changed["id"] else step for step in plan["steps"]]}


def _is_result(plan: Plan, step: str) -> bool:
    return mapping(plan.get("result")).get("ref") == step


def _required(prompt: Prompt, tool: str) -> Sequence[str]:
    return strings(mapping(mapping(prompt.tools.get(tool)).get("arguments")).get("required"))


def _removed(args: Mapping[str, Any], field: str, required: Sequence[str]) -> dict[str, Any]:
    """Drop the member a JSON pointer below `/args` names, as long as the tool does not require it."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in field.split("/")[2:]]
    if not parts or (len(parts) == 1 and parts[0] in required):
        return dict(args)
    changed: dict[str, Any] = _cut(args, parts)
    return changed


def _cut(value: Any, parts: Sequence[str]) -> Any:
    head, *rest = parts
    if isinstance(value, dict) and head in value:
        kept = {key: item for key, item in value.items() if key != head}
        return {**value, head: _cut(value[head], rest)} if rest else kept
    if isinstance(value, list) and head.isdecimal() and int(head) < len(value):
        place = int(head)
        return [*value[:place], *([_cut(value[place], rest)] if rest else []), *value[place + 1 :]]
    return value


def _unprofiled(plan: Plan, profile: str) -> Plan:
    steps = [step | {"args": _unreferenced(step["args"], profile)} for step in plan["steps"] if step["id"] != profile]
    return plan | {"steps": steps}


def _unreferenced(value: Any, step: str) -> Any:
    """Leave out every member and item that refers to `step`."""
    if isinstance(value, dict):
        return {key: _unreferenced(item, step) for key, item in value.items() if mapping(item).get("ref") != step}
    if isinstance(value, list):
        return [_unreferenced(item, step) for item in value if mapping(item).get("ref") != step]
    return value
