"""Checks a planned argument against the JSON Schema of its tool, as far as the argument is known before the run.

It knows the keywords that pydantic writes. `pattern` and `format` are left to the executor, which checks every bound
value again before the call: a pattern is the one keyword whose check can take arbitrarily long.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from raa_schemas.plan import as_reference

_SHOWN_CHARACTERS: Final = 60
_COMBINED: Final = {"$ref", "allOf", "anyOf", "oneOf"}
_RANGE: Final = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"}


def _anything(_value: Any) -> bool:
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class Problem(NamedTuple):
    """One place where an argument does not fit; `at` is a JSON pointer into the argument."""

    at: str
    message: str
    hint: str | None = None

    def below(self, part: str | int) -> "Problem":
        """Move the place one level down."""
        return self._replace(at=f"/{str(part).replace('~', '~0').replace('/', '~1')}{self.at}")


def check_argument(schema: Mapping[str, Any], value: Any) -> list[Problem]:
    """List where `value` cannot fit `schema`; references fit everywhere, `{"literal": …}` counts as what it holds."""
    return list(_Check(schema).problems(schema, value, planned=True))


def check_bound(schema: Mapping[str, Any], value: Any) -> list[Problem]:
    """List where bound arguments do not fit `schema`; what looks like a reference is a plain object here."""
    return list(_Check(schema).problems(schema, value, planned=False))


class _Check:
    """One walk over one argument. Results are kept by schema and value, so that nested unions stay polynomial."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[int, int, bool], tuple[Problem, ...]] = {}

    def problems(self, schema: Any, value: Any, *, planned: bool) -> tuple[Problem, ...]:
        key = (id(schema), id(value), planned)
        if key not in self._known:
            self._known[key] = ()  # a schema that refers to itself without going down fits by itself
            self._known[key] = tuple(self._walk(schema, value, planned))
        return self._known[key]

    def _walk(self, schema: Any, value: Any, planned: bool) -> Iterator[Problem]:  # noqa: FBT001  # private and hot
        if planned and isinstance(value, dict):
            if as_reference(value) is not None:
                return
            if value.keys() == {"literal"}:
                yield from self.problems(schema, value["literal"], planned=False)
                return
        if schema is False:
            yield Problem("", "nothing is accepted here", "leave it out")
        elif isinstance(schema, Mapping):
            yield from self._keywords(schema, value, planned)

    def _keywords(self, schema: Mapping[str, Any], value: Any, planned: bool) -> Iterator[Problem]:  # noqa: FBT001
        if not schema.keys().isdisjoint(_COMBINED):
            yield from self._combined(schema, value, planned)
        wrong = _wrong_type(schema, value) or _wrong_constant(schema, value)
        if wrong:
            yield wrong
        elif isinstance(value, dict):
            yield from _wrong_size(schema, len(value), "Properties", "members")
            yield from self._object(schema, value, planned=planned)
        elif isinstance(value, list):
            yield from _wrong_size(schema, len(value), "Items", "items")
            yield from self._array(schema, value, planned=planned)
        elif isinstance(value, str):
            yield from _wrong_size(schema, len(value), "Length", "characters")
        elif _is_number(value):
            yield from _out_of_range(schema, value)

    def _combined(self, schema: Mapping[str, Any], value: Any, planned: bool) -> Iterator[Problem]:  # noqa: FBT001
        if "$ref" in schema:
            yield from self.problems(self._resolve(schema["$ref"]), value, planned=planned)
        for part in schema.get("allOf", ()):
            yield from self.problems(part, value, planned=planned)
        # oneOf as anyOf: with holes in the value nobody can say yet that two branches fit
        for union in ("anyOf", "oneOf"):
            if union in schema:
                yield from self._union(schema[union], value, planned=planned)

    def _resolve(self, pointer: str) -> Any:
        found: Any = self._root
        for raw in pointer.removeprefix("#").split("/")[1:]:
            part = raw.replace("~1", "/").replace("~0", "~")
            found = found.get(part, True) if isinstance(found, Mapping) else True
        return found

    def _union(self, branches: list[Any], value: Any, *, planned: bool) -> Iterator[Problem]:
        failed = []
        for branch in branches:
            if not (problems := self.problems(branch, value, planned=planned)):
                return
            failed.append(problems)
        deep = [problems for problems in failed if any(problem.at for problem in problems)]
        if len(deep) == 1:  # the one branch of the right type says best what is wrong inside
            yield from deep[0]
        else:
            yield Problem("", f"{show(value)} fits none of: {'; '.join(self._names(branches))}")

    def _names(self, branches: list[Any]) -> Iterator[str]:
        for branch in branches:
            target = self._resolve(branch["$ref"]) if isinstance(branch, Mapping) and "$ref" in branch else branch
            yield _name_of(target)

    def _object(self, schema: Mapping[str, Any], value: dict[str, Any], *, planned: bool) -> Iterator[Problem]:
        properties = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        for name in schema.get("required", ()):
            if name not in value:
                yield Problem("", f"{name!r} is missing", f"add {name!r}: {_name_of(properties.get(name, {}))}")
        for name, item in value.items():
            if "propertyNames" in schema:
                yield from (p.below(name) for p in self.problems(schema["propertyNames"], name, planned=False))
            if name in properties:
                yield from (p.below(name) for p in self.problems(properties[name], item, planned=planned))
            elif rest is False and not schema.get("patternProperties"):
                yield Problem("", f"there is no {show(name)}", _known_names(name, properties)).below(name)
            else:
                yield from (p.below(name) for p in self.problems(rest, item, planned=planned))

    def _array(self, schema: Mapping[str, Any], value: list[Any], *, planned: bool) -> Iterator[Problem]:
        first = schema.get("prefixItems", [])
        for position, item in enumerate(value):
            wanted = first[position] if position < len(first) else schema.get("items", True)
            yield from (p.below(position) for p in self.problems(wanted, item, planned=planned))
        if schema.get("uniqueItems") and _repeats(value, planned=planned):
            yield Problem("", "the items must differ from each other", "leave the repeated one out")


def show(value: Any) -> str:
    """Quote a value for a message, at most 60 characters of it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…")
    return json.dumps(value)[:_SHOWN_CHARACTERS]


def _wrong_type(schema: Mapping[str, Any], value: Any) -> Problem | None:
    wanted = schema.get("type", "any")
    if any(_TYPES.get(name, _anything)(value) for name in ((wanted,) if isinstance(wanted, str) else wanted)):
        return None
    return Problem("", f"{show(value)} is not {_name_of(schema)}", f"give {_name_of(schema)}")


def _wrong_constant(schema: Mapping[str, Any], value: Any) -> Problem | None:
    if "enum" not in schema and "const" not in schema:
        return None
    allowed = schema["enum"] if "enum" in schema else [schema["const"]]
    if any(_same(value, one) for one in allowed):
        return None
    return Problem("", f"{show(value)} is not accepted", f"use one of {', '.join(map(show, allowed[:20]))}")


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _wrong_size(schema: Mapping[str, Any], size: int, suffix: str, unit: str) -> Iterator[Problem]:
    if size < schema.get(f"min{suffix}", 0):
        yield Problem("", f"{size} {unit} are too few", f"give at least {schema[f'min{suffix}']}")
    if size > schema.get(f"max{suffix}", math.inf):
        yield Problem("", f"{size} {unit} are too many", f"give at most {schema[f'max{suffix}']}")


def _out_of_range(schema: Mapping[str, Any], value: float) -> Iterator[Problem]:
    if schema.keys().isdisjoint(_RANGE):
        return
    if value < schema.get("minimum", -math.inf) or value <= schema.get("exclusiveMinimum", -math.inf):
        yield Problem("", f"{show(value)} is too small", f"give {_range(schema)}")
    elif value > schema.get("maximum", math.inf) or value >= schema.get("exclusiveMaximum", math.inf):
        yield Problem("", f"{show(value)} is too large", f"give {_range(schema)}")
    step = schema.get("multipleOf")
    if step and not math.isclose(math.remainder(value, step), 0, abs_tol=1e-9 * abs(step)):
        yield Problem("", f"{show(value)} is no multiple of {step}", f"give a multiple of {step}")


def _range(schema: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "a number " + " and ".join(f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema)


def _name_of(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "a value"
    if "enum" in schema:
        return "one of " + ", ".join(map(show, schema["enum"][:20]))
    if "const" in schema:
        return show(schema["const"])
    wanted = schema.get("type") or [_name_of(branch) for branch in schema.get("anyOf", ())] or "value"
    return " or ".join(wanted) if isinstance(wanted, list) else str(wanted)


def _known_names(name: str, properties: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name[:_SHOWN_CHARACTERS], properties, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of {', '.join(list(properties)[:20])}" if properties else "leave it out"


def _repeats(items: list[Any], *, planned: bool) -> bool:
    fixed = [item for item in items if not (planned and isinstance(item, dict))]
    return any(_same(one, other) for place, one in enumerate(fixed[:200]) for other in fixed[:place])
