"""Reads the planner's prompt back into data: the offline model knows what these sections say and nothing else."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_HEADING = re.compile(r"#\s+(\S.*?)\s*#*\s*")
_FENCE = re.compile(r"\s*```")


@dataclass(frozen=True)
class Source:
    """An input as the prompt shows it; of its preview only the names are used."""

    name: str
    format: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Prompt:
    """The sections of a prompt; what is absent or malformed is empty."""

    goal: str
    max_steps: int | None
    tools: Mapping[str, Mapping[str, Any]]
    sources: tuple[Source, ...]
    lessons: tuple[Mapping[str, Any], ...]
    attempts: tuple[Mapping[str, Any], ...]
    rejected: Mapping[str, Any]


def read_prompt(messages: Iterable[Any]) -> Prompt:
    """Read the sections out of chat messages; never raises, whatever they hold."""
    sections: dict[str, Any] = {}
    for text in texts(messages):
        for name, value in _sections(text):
            sections.setdefault(name, value)
    goal = mapping(sections.get("goal"))
    return Prompt(
        goal=text_of(goal.get("goal")),
        max_steps=_positive(goal.get("max_steps")),
        tools={tool["name"]: tool for tool in mappings(sections.get("tools")) if isinstance(tool.get("name"), str)},
        sources=tuple(_source(item) for item in mappings(sections.get("inputs")) if text_of(item.get("name"))),
        lessons=tuple(mappings(sections.get("lessons"))),
        attempts=tuple(mappings(sections.get("earlier attempts"))),
        rejected=mapping(sections.get("findings")),
    )


def texts(messages: Iterable[Any]) -> Iterator[str]:
    """Yield the text of each chat message, also of one whose content is a list of parts."""
    for message in messages:
        content = mapping(message).get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield "\n".join(text_of(part.get("text")) for part in mappings(content))


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list; anything else counts as an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    """Return the texts of a list; anything else counts as an empty list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """Return `value` if it is text, else the empty text."""
    return value if isinstance(value, str) else ""


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _source(item: Mapping[str, Any]) -> Source:
    columns = tuple(name for name in strings(item.get("columns")) if name)
    return Source(item["name"], text_of(item.get("format")), columns)


def _sections(text: str) -> Iterator[tuple[str, Any]]:
    """Yield each heading with the value of the first fenced block below it; a heading inside a fence is data."""
    name, fenced = "", False
    block: list[str] = []
    for line in text.split("\n"):
        if _FENCE.match(line):
            if fenced and name:
                yield name, _json("\n".join(block))
                name = ""
            fenced, block = not fenced, []
        elif fenced:
            block.append(line)
        elif heading := _HEADING.fullmatch(line):
            name = heading[1].casefold()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
