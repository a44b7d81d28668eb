"""Answers a planning prompt as a model would, by rules: the same prompt always gets the same plan.

It is naive on purpose. From the previews of the inputs it takes names only, so that how numbers are written is known
only from lessons and from earlier failures: what it gets right at once, it gets right because the agent has learned.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from raa_router.offline import arithmetic, skeleton
from raa_router.offline.experience import apply_attempts, apply_lessons
from raa_router.offline.lexer import tokenize
from raa_router.offline.parser import parse
from raa_router.offline.prompt import Prompt, read_prompt
from raa_router.offline.repair import repaired
from raa_router.offline.request import NotUnderstoodError
from raa_router.offline.tool_use import tool_call

_LIST_FILES = re.compile(
    r"\s*(?:please\s+)?(?:list|show|print|what are|which are|give me|tell me)\s+(?:me\s+)?(?:all\s+)?(?:of\s+)?"
    r"(?:the\s+|my\s+)?(?:input\s+)?(?:files|inputs)(?:\s+(?:there are|you have|(?:in|of) the workspace))?[\s.?!]*",
    re.IGNORECASE,
)
_MAX_GOAL = 20_000


def answer(messages: Iterable[Any]) -> str:
    """Return a plan, or `{"cannot": reason}`, as JSON text; never raises on what the messages hold."""
    prompt = read_prompt(messages)
    try:
        plan = repaired(apply_attempts(apply_lessons(_first_plan(prompt), prompt), prompt), prompt)
        _check_means(plan, prompt)
        return json.dumps(plan, allow_nan=False)
    except NotUnderstoodError as refusal:
        return json.dumps({"cannot": str(refusal) + _unusable(prompt)})
    except (RecursionError, ValueError):
        return json.dumps({"cannot": "the goal needs arguments that JSON cannot carry; make it simpler"})


def _unusable(prompt: Prompt) -> str:
    """Name the inputs that hold nothing to compute with, which is often why a goal makes no sense."""
    odd = [f"{source.name} is {source.format}" for source in prompt.sources if source.format in {"empty", "binary"}]
    return f"; note that {' and '.join(odd)}" if odd else ""


def _first_plan(prompt: Prompt) -> dict[str, Any]:
    goal = prompt.goal.strip()
    if not goal:
        raise NotUnderstoodError("the prompt holds no goal; send the section `# Goal` with a fenced JSON block")
    if len(goal) > _MAX_GOAL:
        raise NotUnderstoodError(f"the goal asks for more than {_MAX_GOAL} characters can say; make it shorter")
    called = tool_call(goal, prompt.tools)
    if called is not None:
        return skeleton.single_step("use", *called)
    if _LIST_FILES.fullmatch(goal):
        return skeleton.single_step("list", skeleton.LIST, {}, "/files")
    task, path = arithmetic.split_output(goal)
    if expression := arithmetic.expression_of(task):
        plan = skeleton.single_step("calculate", skeleton.CALCULATE, {"expression": expression, "values": {}}, "/value")
        return skeleton.with_report(plan, expression, path) if path else plan
    names = [source.name for source in prompt.sources]
    return skeleton.plan_of(parse(tokenize(goal, prompt.sources), names), prompt.sources, goal)


def _check_means(plan: dict[str, Any], prompt: Prompt) -> None:
    """Refuse a plan that needs a tool the prompt does not offer, or more steps than the task may have."""
    lacking = sorted({step["tool"] for step in plan["steps"]} - set(prompt.tools))
    if lacking:
        raise NotUnderstoodError(f"the goal asks for the tool {', '.join(lacking)}, which is not offered here")
    if prompt.max_steps is not None and len(plan["steps"]) > prompt.max_steps:
        raise NotUnderstoodError(
            f"the goal asks for {len(plan['steps'])} steps, and the task allows {prompt.max_steps}; raise max_steps"
        )
