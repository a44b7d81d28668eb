"""Reads a model's answer: a plan, a plain `cannot`, or garbage with the reason that is told to the model."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from raa_schemas.plan import Plan, Step

MAX_ANSWER_CHARACTERS: Final = 262_144
MAX_OBJECTS_TRIED: Final = 100
MAX_REASON_CHARACTERS: Final = 500
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan of the right form; whether it may run is safety's question."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Cannot:
    """The model says that the goal is out of reach."""

    reason: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """No usable plan in the answer, and why."""

    reason: str


Answer = Planned | Cannot | Garbage


def answer_schema() -> dict[str, Any]:
    """Give the JSON Schema of an answer, as the prompt shows it."""
    step = Step.model_json_schema()
    text = {"type": "string"}
    plan = {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "minItems": 1, "items": step},
            "result": {"description": "an argument: a literal or a reference into a step's output"},
            "lessons": {"type": "array", "items": text, "description": "ids of the lessons this plan applies"},
        },
        "required": ["steps", "result"],
        "additionalProperties": False,
    }
    cannot = {"type": "object", "properties": {"cannot": text}, "required": ["cannot"], "additionalProperties": False}
    return {"oneOf": [plan, cannot]}


def read_answer(text: str) -> Answer:
    """Find the answer in what a model sent, never raises: fences, thinking and prose around it are tolerated."""
    if len(text) > MAX_ANSWER_CHARACTERS:
        return Garbage(f"it has {len(text)} characters, more than {MAX_ANSWER_CHARACTERS}")
    reason = "it holds no JSON object with `steps` or `cannot`"
    for found in _objects(_THOUGHT.sub("", text)):
        if isinstance(found.get("cannot"), str):
            return Cannot(found["cannot"][:MAX_REASON_CHARACTERS] or "the model gave no reason")
        if "steps" not in found:
            continue
        answer = _plan(found)
        if isinstance(answer, Planned):
            return answer
        reason = answer.reason
    return Garbage(reason)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text, outermost ones only, from the front."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    place = text.find("{")
    for _ in range(MAX_OBJECTS_TRIED):
        if place < 0:
            return
        try:
            found, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(found, dict):
                yield found
        place = text.find("{", end)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _plan(found: dict[str, Any]) -> Planned | Garbage:
    cited = found.get("lessons")
    known = [item for item in cited if isinstance(item, str)] if isinstance(cited, list) else []
    content = {"steps": found["steps"], "result": found.get("result"), "origin": "model", "lessons": known}
    try:
        plan = Plan.model_validate(content)
        plan.content_hash()
    except ValidationError as problem:
        return Garbage(_first_mistakes(problem))
    except (ValueError, RecursionError) as problem:
        return Garbage(f"the plan is no plain JSON: {problem}"[:MAX_REASON_CHARACTERS])
    return Planned(plan)


def _first_mistakes(problem: ValidationError) -> str:
    told = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problem.errors(include_url=False)[:5])
    return "; ".join(told)[:MAX_REASON_CHARACTERS]
