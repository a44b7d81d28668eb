"""Finds the answer in what endpoints really send: thinking, fences and prose around it, tool calls instead of it."""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_CONTENT_CHARACTERS = 262_144
_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(r"\A\s*<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_MAX_STARTS = 200


class UnusableAnswerError(Exception):
    """An endpoint answered with something that holds no answer; the message says what it was."""


def content_of(completion: Any, *, wants_json: bool) -> str:
    """Return the answer's text; where JSON is wanted and there is some, exactly that JSON.

    Raises:
        UnusableAnswerError: there is no choice, or nothing in it.
    """
    text = without_thoughts(_said(_message(completion)))
    if wants_json:
        text = json_in(text) or text
    if not text.strip():
        raise UnusableAnswerError("the endpoint sent an empty answer; allow more tokens or try another model")
    if len(text) > MAX_CONTENT_CHARACTERS:
        raise UnusableAnswerError(f"the endpoint sent {len(text)} characters, more than {MAX_CONTENT_CHARACTERS}")
    return text.strip()


def tokens_of(completion: Any) -> tuple[int, int] | None:
    """Return the tokens sent and received as the endpoint counts them; None when it does not say."""
    usage = completion.get("usage") if isinstance(completion, dict) else None
    if not isinstance(usage, dict):
        return None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in counts):
        return None
    return counts[0] or 0, counts[1] or 0


def without_thoughts(text: str) -> str:
    """Leave out thinking, also where the template swallowed its opening tag or the limit its closing one."""
    text = _THOUGHT.sub("", text)
    text = _UNOPENED.sub("", text)
    return "" if _UNCLOSED.match(text) else text


def json_in(text: str) -> str | None:
    """Return the first JSON object in a text, as it is written; None when there is none."""
    return next(_objects(text), None)


def _objects(text: str) -> Iterator[str]:
    decoder = json.JSONDecoder()
    place = text.find("{")
    for _ in range(_MAX_STARTS):
        if place < 0:
            return
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield text[place:end]
        place = text.find("{", end)


def _message(completion: Any) -> dict[str, Any]:
    choices = completion.get("choices") if isinstance(completion, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        raise UnusableAnswerError(f"the endpoint sent no choices but {json.dumps(completion)[:200]}")
    message = first.get("message")
    if isinstance(message, dict):
        return message
    return {"content": first.get("text")}


def _said(message: dict[str, Any]) -> str:
    """Take the content; where it is empty, the arguments of the first tool call, which is where some models plan."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, str) and content.strip():
        return content
    calls = message.get("tool_calls")
    listed = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for function in [*listed, message.get("function_call")]:
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, dict):
            return json.dumps(arguments)
        if isinstance(arguments, str) and arguments.strip():
            return arguments
    return ""
