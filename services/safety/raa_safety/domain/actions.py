"""Decides on an action whose arguments are known: allow it, deny it, or ask people."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from raa_safety.domain.json_schema import check_bound
from raa_safety.domain.policy import Judgement, Policy
from raa_schemas.action import ActionProposed
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.tool import ToolSpec

SHOWN_BYTES: Final = 4_096
_EFFECTS: Final = {
    "read": "changes nothing",
    "keyed": "repeating it changes nothing more",
    "checkable": "whether it happened can be looked up",
    "once": "cannot be repeated or taken back",
}


class Answer(NamedTuple):
    """What to do with a proposed action, and why."""

    judgement: Judgement
    reason: str


def judge_action(action: ActionProposed, tools: Mapping[str, ToolSpec], policy: Policy) -> Answer:
    """Judge an action by the tool's own declaration, never by what the proposal says of its risk."""
    tool = tools.get(action.tool)
    if tool is None:
        return Answer("deny", f"no executor offers {action.tool!r} any more")
    if action.args is None and action.args_ref is None:
        return Answer("deny", "the proposal shows no arguments; send args or args_ref")
    if action.args is not None and _digest(action.args) != action.args_hash:
        return Answer("deny", "args_hash is not the digest of the arguments")
    if problems := check_bound(tool.arguments, action.args) if action.args is not None else []:
        return Answer("deny", f"the arguments do not fit {tool.name}: {problems[0].at or '/'}: {problems[0].message}")
    judgement = policy.judge(tool)
    return Answer(judgement, f"policy {policy.version[:19]}: {tool.name} has risk {tool.risk}: {judgement}")


def _digest(args: dict[str, Any]) -> str | None:
    """Hash the arguments; None if they hold NaN or an infinity, which no digest covers."""
    try:
        return digest(args)
    except ValueError:
        return None


def summarise(tool: ToolSpec | None, name: str) -> str:
    """Say what an action does, from the tool's declaration and nothing a model wrote."""
    if tool is None:
        return f"{name}: no executor offers this tool any more"
    return f"{tool.description or name} ({tool.effect}: {_EFFECTS[tool.effect]}; risk {tool.risk})"


def shown_arguments(action: ActionProposed) -> dict[str, Any] | None:
    """Give the arguments if they are small enough to be kept in state (4 KB)."""
    if action.args is None or len(canonical_bytes(action.args)) > SHOWN_BYTES:
        return None
    return action.args
