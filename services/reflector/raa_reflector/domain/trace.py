"""Follows a value of a check back through the plan to the columns it was computed from."""

from typing import Any, NamedTuple

from raa_schemas.check_syntax import Path
from raa_schemas.plan import Plan, Reference, Step, as_reference, references

# A bound on one of these implies values outside the bound, or of the wrong sign. A count or a spread implies nothing.
_BOUNDED_BY_VALUES = {None, "mean", "min", "max", "median", "sum"}


class Origin(NamedTuple):
    """A step that read a file, and the columns behind the value in question."""

    step: str
    columns: tuple[str, ...]


def origins(plan: Plan, place: Path) -> list[Origin]:
    """List the steps and columns behind a place in `result` or `outputs`, in plan order, each step once."""
    found: dict[str, Origin] = {}
    if place.root == "outputs":
        _follow(plan, Reference(str(place.parts[0]), _pointer(place.parts[1:])), found, set())
    elif place.root == "result":
        for reference in _within(plan.result, place.parts):
            _follow(plan, reference, found, set())
    order = [step.id for step in plan.steps]
    return sorted(found.values(), key=lambda origin: order.index(origin.step))


def _within(argument: Any, parts: tuple[str | int, ...]) -> list[Reference]:
    """Go down an argument until it is a reference, which takes the rest of the way; else take all it refers to."""
    for depth, part in enumerate(parts):
        if (reference := as_reference(argument)) is not None:
            return [Reference(reference.step, reference.path + _pointer(parts[depth:]))]
        try:
            argument = argument[part]
        except (KeyError, IndexError, TypeError):
            return []
    return list(references(argument))


def _follow(plan: Plan, reference: Reference, found: dict[str, Origin], visited: set[Reference]) -> None:
    step = next((step for step in plan.steps if step.id == reference.step), None)
    if step is None or reference in visited:
        return
    visited.add(reference)
    if columns := _columns(step, reference.path):
        known = found[step.id].columns if step.id in found else ()
        found[step.id] = Origin(step.id, tuple(dict.fromkeys([*known, *columns])))
        return
    for argument in references(step.args):
        _follow(plan, argument, found, visited)


def _columns(step: Step, pointer: str) -> list[str]:
    """Name the columns that a query selected for the value at `pointer`; of all values if it is not that precise."""
    select = step.args.get("select")
    entries = [entry for entry in select if isinstance(entry, dict)] if isinstance(select, list) else []
    name = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    named = [entry for entry in entries if name in {entry.get("as"), _default_name(entry)}]
    chosen = named or entries
    return list(
        dict.fromkeys(
            entry["column"]
            for entry in chosen
            if entry.get("fn") in _BOUNDED_BY_VALUES and isinstance(entry.get("column"), str)
        )
    )


def _default_name(entry: dict[str, Any]) -> str:
    return str(entry.get("fn") or entry.get("column")) if "as" not in entry else ""


def _pointer(parts: tuple[str | int, ...]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
