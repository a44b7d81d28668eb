"""Prompts as the planner writes them, for tests of the offline model; the tools are the executor's real ones."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from raa_executor.tools.builtin import built_in_tools
from raa_planner.domain.prompt import Brief, compose
from raa_router.offline.answer import answer
from raa_schemas.artifact import Source
from raa_schemas.tool import ToolSpec

Json = dict[str, Any]


@cache
def tools() -> tuple[ToolSpec, ...]:
    return tuple(built_in_tools().specs())


def source(name: str, *columns: str, format: str = "delimited") -> Source:  # noqa: A002
    return Source(name=name, sha256="0" * 64, size=1, format=format, columns=list(columns), delimiter=";")


MOTORS = source("motors.csv", "id", "maker", "power (kW)", "fuel_use", "Year", "class", "T")
PLANTS = source("plants 2020.csv", "species", "leaf length", "leaf width", "count", "site")
NORTH = source("sales-north.csv", "month", "revenue", "units", "shop")
SOUTH = source("sales-south.csv", "month", "revenue", "units", "shop")
SENSORS = source("log/sensors.jsonl", "NOISE(dB)", "NOISE.2(dB)", "Größe", "state", format="jsonl")


def messages(
    goal: str,
    *sources: Source,
    extra_tools: Sequence[ToolSpec] = (),
    without: Sequence[str] = (),
    max_steps: int = 20,
    **sections: Any,
) -> list[dict[str, str]]:
    """Compose the planner's own prompt; `sections` replace lessons, attempts and findings by JSON of the contract."""
    offered = [tool for tool in (*tools(), *extra_tools) if tool.name not in without]
    system, user = compose(Brief(goal=goal, max_steps=max_steps, sources=list(sources)), offered)
    content = user["content"]
    for name, empty in (("Lessons", "[]"), ("Earlier attempts", "[]"), ("Findings", "{}")):
        given = sections.get(name.casefold().replace(" ", "_"))
        if given is not None:
            fenced = json.dumps(given).replace("`", "\\u0060")
            content = content.replace(f"# {name}\n\n```json\n{empty}\n```", f"# {name}\n\n```json\n{fenced}\n```")
    return [system, {"role": "user", "content": content}]


def ask(goal: str, *sources: Source, **sections: Any) -> Json:
    found: Json = json.loads(answer(messages(goal, *sources, **sections)))
    return found


def plan(goal: str, *sources: Source, **sections: Any) -> Json:
    found = ask(goal, *sources, **sections)
    assert "cannot" not in found, found["cannot"]
    return found


def step(found: Mapping[str, Any], tool: str) -> Json:
    """The arguments of the only step of this tool."""
    (only,) = [step["args"] for step in found["steps"] if step["tool"] == tool]
    args: Json = only
    return args


def query(goal: str, *sources: Source, **sections: Any) -> Json:
    return step(plan(goal, *sources, **sections), "table.query")


def short(args: Mapping[str, Any]) -> str:
    """A query in one line, so that a table of goals can be read: file: selected | where | group | order | limit."""
    select = ", ".join(f"{one['fn']}({one['column']})" if one.get("fn") else one["column"] for one in args["select"])
    where = " and ".join(f"{one['column']} {one['op']} {one['value']!r}" for one in args["where"])
    order = ", ".join(
        f"{one.get('as') or one['column']} {'desc' if one['desc'] else 'asc'}" for one in args["order_by"]
    )
    parts = [("where", where), ("by", ", ".join(args["group_by"])), ("order", order)]
    text = f"{args['table']['file']}: {select}" + "".join(f" | {name} {part}" for name, part in parts if part)
    return text + (f" | limit {args['limit']}" if args["limit"] != 1000 else "")
