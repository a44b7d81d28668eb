"""Follows `use TOOL with name=value, name=value`: the way from a goal to any tool, also one of the user's own."""

import json
import re
from collections.abc import Mapping
from typing import Any

from raa_router.offline.prompt import mapping, strings, text_of
from raa_router.offline.request import NotUnderstoodError

_USE = re.compile(
    r"\s*(?:please\s+)?(?:use|call|run)\s+(?:the\s+)?(?:tool\s+)?[`\"']?(?P<tool>[A-Za-z_][\w.]*\w|[A-Za-z_])[`\"']?"
    r"(?:\s+with\s+(?P<with>.*\S))?\s*", re.IGNORECASE | re.DOTALL,
)  # fmt: skip
_NAME = re.compile(r"\s*[`]?([A-Za-z_]\w*)[`]?\s*=\s*")
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”"}
# A comma, a semicolon, "and", or, where the next name clings to its equals sign, nothing but a space.
_SEPARATOR = re.compile(
    r"\s*(?:,\s*and\s|,|;|\band\b)\s*(?=[`]?[A-Za-z_]\w*[`]?\s*=)|\s+(?=[`]?[A-Za-z_]\w*[`]?=(?!=))"
)


def tool_call(goal: str, tools: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """Return the tool and its arguments, or None when the goal is no such order.

    Raises:
        NotUnderstoodError: it is one, but the tool, or an argument it needs, is missing.
    """
    found = _USE.fullmatch(goal)
    if found is None or (found["with"] is None and found["tool"].rstrip(".") not in tools):
        return None
    name = found["tool"]
    if found["with"] is not None and not _NAME.match(found["with"]) and name not in tools:
        return None
    if name not in tools:
        raise NotUnderstoodError(f"the goal asks for the tool {name}, which is not offered; there are {_listed(tools)}")
    schema = mapping(tools[name].get("arguments"))
    written = _arguments(found["with"] or "", name)
    _check_names(name, schema, written)
    properties = mapping(schema.get("properties"))
    return name, {key: _value(text, mapping(properties.get(key)), schema) for key, text in written.items()}


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"


def _arguments(text: str, tool: str) -> dict[str, str]:
    written: dict[str, str] = {}
    place = 0
    while place < len(text):
        name = _NAME.match(text, place)
        if name is None:
            raise NotUnderstoodError(
                f"the goal asks to use {tool} with {text[place : place + 60]!r}; write name=value, name=value"
            )
        value, place = _written(text, name.end())
        written[name[1]] = value
    return written


def _written(text: str, start: int) -> tuple[str, int]:
    """Read one value: JSON, a quoted text, or everything up to the next `, name=`; also give where the next begins."""
    if text[start : start + 1] in {"[", "{", '"'}:
        try:
            _, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            pass
        else:
            return text[start:end], _after(text, end)
    closing = _QUOTES.get(text[start : start + 1])
    end = text.find(closing, start + 1) if closing else -1
    if end > start and (end + 1 >= len(text.rstrip()) or _SEPARATOR.match(text, end + 1)):
        return json.dumps(text[start + 1 : end]), _after(text, end + 1)
    separator = _SEPARATOR.search(text, start)
    if separator is None:
        return text[start:].strip(), len(text)
    return text[start : separator.start()].strip(), separator.end()


def _after(text: str, end: int) -> int:
    separator = _SEPARATOR.match(text, end)
    return separator.end() if separator else end + len(text[end:]) - len(text[end:].lstrip(" .!"))


def _check_names(tool: str, schema: Mapping[str, Any], written: Mapping[str, str]) -> None:
    properties = mapping(schema.get("properties"))
    unknown = [name for name in written if name not in properties]
    if unknown and schema.get("additionalProperties") is False:
        wrong = ", ".join(unknown)
        raise NotUnderstoodError(
            f"the goal asks to use {tool} with {wrong}, which it does not take; it takes {_listed(properties)}"
        )
    lacking = [name for name in strings(schema.get("required")) if name not in written]
    if lacking:
        raise NotUnderstoodError(
            f"the goal asks to use {tool} without {', '.join(lacking)}; write use {tool} with {lacking[0]}=…"
        )


def _value(text: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Read a written value as the type that the tool's schema asks for; without one, as JSON or else as text."""
    types = _types(schema, root)
    parsed = _parsed(text)
    quoted = isinstance(parsed, str)
    if "string" in types and not quoted and not (types - {"string"} and _fits(parsed, types)):
        return text
    if types == {"number"} or "number" in types:
        return parsed if _fits(parsed, types) else text
    return parsed if parsed is not None or text == "null" else text


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return {"true": True, "false": False, "none": None}.get(text.casefold())
    return value


def _types(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> set[str]:
    if depth > 4:
        return set()
    if reference := text_of(schema.get("$ref")):
        schema = mapping(mapping(root.get("$defs")).get(reference.rpartition("/")[2]))
    kind = schema.get("type")
    types = {kind} if isinstance(kind, str) else set(strings(kind))
    for choice in (schema.get("anyOf"), schema.get("oneOf")):
        for option in choice if isinstance(choice, list) else []:
            types |= _types(mapping(option), root, depth + 1)
    return types


def _fits(value: Any, types: set[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int):
        return bool(types & {"integer", "number"})
    if isinstance(value, float):
        return "number" in types
    kinds = {str: "string", list: "array", dict: "object", type(None): "null"}
    return kinds.get(type(value), "") in types
