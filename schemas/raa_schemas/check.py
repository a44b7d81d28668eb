"""Evaluates success checks: a small language without `eval`, loops or names of its own, safe on any text and any data.

`parse_check` is called at admission, `evaluate` by the reflector; the grammar is in docs/checks.md.
"""

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

from raa_schemas.artifact import Artifact
from raa_schemas.check_syntax import (
    All,
    AnyOf,
    Call,
    Chain,
    Check,
    CheckSyntaxError,
    Comparison,
    Constant,
    ListOf,
    Negative,
    Node,
    Not,
    Path,
    parse_check,
)
from raa_schemas.check_text import render
from raa_schemas.pattern import OutOfSteps, Pattern
from raa_schemas.reflection import CheckReport

__all__ = ["Check", "CheckSyntaxError", "evaluate", "failed_path", "parse_check", "render"]

MAX_MATCHED_CHARACTERS = 65_536
MATCH_STEPS = 1_000_000
"""Automaton steps of one evaluation, all its calls of `matches` together: well under a second."""

MAX_ROUND_DIGITS = 15
_MAX_COMPARED_DEPTH = 100
_SHOWN_CHARACTERS = 200

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_MISSING = object()


class _Uncomputable(Exception):
    """A path is missing or a value has the wrong type: no defect, the check is false and this is why."""


def evaluate(check: Check, result: Any, outputs: dict[str, Any], artifacts: Iterable[Artifact] = ()) -> CheckReport:
    """Say whether a check holds; never raises.

    Args:
        check: from `parse_check`.
        result: the plan's result.
        outputs: what the steps returned, by step id.
        artifacts: the files that were written; the check sees them as an object, by name.
    """
    files = {item.name: item.model_dump(mode="json") for item in artifacts}
    evaluation = _Evaluation({"result": result, "outputs": outputs, "artifacts": files})
    try:
        value = evaluation.truth(check.root)
        atom = None if value else evaluation.failed_atom(check.root, wanted=True)
    except _Uncomputable as error:
        return CheckReport(check=check.text, value=False, reason=str(error))
    return CheckReport(check=check.text, value=value, failed_atom=atom)


def failed_path(report: CheckReport) -> Path | None:
    """Read the place whose value a report found outside its bound; None if it was not a plain path."""
    text = (report.failed_atom or {}).get("path")
    if not isinstance(text, str):
        return None
    try:
        root = parse_check(text).root
    except CheckSyntaxError:
        return None
    return root if isinstance(root, Path) else None


class _Evaluation:
    """One evaluation: the values a check speaks of, and the automaton steps it may still spend."""

    def __init__(self, roots: dict[str, Any]) -> None:
        self._roots = roots
        self._steps = MATCH_STEPS

    def truth(self, node: Node) -> bool:
        """Evaluate a condition."""
        value = self._value(node)
        if not isinstance(value, bool):
            raise _Uncomputable(f"{_cut(render(node))} is {_kind(value)}, not true or false; compare it with something")
        return value

    def failed_atom(self, node: Node, *, wanted: bool) -> dict[str, Any] | None:
        """Find the comparison because of which `node` is not `wanted`."""
        match node:
            case Not(operand):
                return self.failed_atom(operand, wanted=not wanted)
            case All(operands) | AnyOf(operands):
                guilty = (item for item in operands if self.truth(item) is not wanted)
                return self.failed_atom(next(guilty, node.operands[0]), wanted=wanted)
            case Comparison(op, left, right):
                return self._atom(op, left, right, wanted=wanted)
            case _:
                return {"path": _place(node), "op": "==", "bound": wanted, "actual": not wanted}

    def _atom(self, op: str, left: Node, right: Node, *, wanted: bool) -> dict[str, Any]:
        """Describe a comparison as `path op bound`, with the path on the left and the operator that should hold."""
        if _place(left) is None and _place(right) is not None and op in _MIRRORED:
            op, left, right = _MIRRORED[op], right, left
        return {
            "path": _place(left),
            "op": op if wanted else _OPPOSITE[op],
            "bound": _shown(self._value(right)),
            "actual": _shown(self._value(left)),
        }

    def _value(self, node: Node) -> Any:  # noqa: PLR0911  # one return per kind of node
        match node:
            case Constant(value):
                return value
            case ListOf(items):
                return [self._value(item) for item in items]
            case Path():
                return self._resolve(node)
            case Negative(operand):
                return -self._number(operand)
            case Chain(first, rest):
                return self._chain(first, rest)
            case Call(function, arguments):
                return self._call(function, arguments)
            case Comparison(op, left, right):
                return self._compare(op, left, right)
            case Not(operand):
                return not self.truth(operand)
            case All(operands):
                return all(self.truth(item) for item in operands)
            case AnyOf(operands):
                return any(self.truth(item) for item in operands)

    def _resolve(self, path: Path) -> Any:
        value = self._find(path)
        if value is _MISSING:
            raise _Uncomputable(f"there is no {_cut(render(path))}; guard it with exists({_cut(render(path))})")
        return value

    def _find(self, path: Path) -> Any:
        value = self._roots[path.root]
        for part in path.parts:
            if not _leads_on(value, part):
                return _MISSING
            value = value[part]
        return value

    def _number(self, node: Node) -> float:
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Uncomputable(f"{_cut(render(node))} is {_kind(value)}, not a number")
        if not math.isfinite(value):
            raise _Uncomputable(f"{_cut(render(node))} is not a finite number")
        return value

    def _chain(self, first: Node, rest: tuple[tuple[str, Node], ...]) -> float:
        value = self._number(first)
        for op, node in rest:
            operand = self._number(node)
            try:
                value = _ARITHMETIC[op](value, operand)
            except ArithmeticError as error:
                raise _Uncomputable(f"{_cut(render(node))} is {_shown(operand)} in a '{op}': {error}") from None
        return value

    def _compare(self, op: str, left: Node, right: Node) -> bool:
        one, other = self._value(left), self._value(right)
        if op in _ORDER:
            return _ordered(op, one, other)
        if op == "in":
            return _contains(other, one)
        return _equal(one, other) is (op == "==")

    def _call(self, function: str, arguments: tuple[Node, ...]) -> Any:
        if function == "exists":
            path = arguments[0]
            return isinstance(path, Path) and self._find(path) is not _MISSING
        if function == "len":
            return self._length(arguments[0])
        if function == "abs":
            return abs(self._number(arguments[0]))
        if function == "round":
            return self._round(*arguments)
        if function == "matches":
            return self._matches(*arguments)
        numbers = self._numbers(arguments)
        return min(numbers) if function == "min" else max(numbers)

    def _length(self, node: Node) -> int:
        value = self._value(node)
        if not isinstance(value, str | list | dict):
            raise _Uncomputable(f"{_cut(render(node))} is {_kind(value)}; len takes text, a list or an object")
        return len(value)

    def _round(self, node: Node, digits: Node = Constant(0)) -> float:  # noqa: B008  # frozen
        places = self._number(digits)
        if places != int(places) or abs(places) > MAX_ROUND_DIGITS:
            raise _Uncomputable(f"round takes -{MAX_ROUND_DIGITS} to {MAX_ROUND_DIGITS} whole digits")
        return round(self._number(node), int(places))

    def _numbers(self, arguments: tuple[Node, ...]) -> list[float]:
        """Take numbers either as arguments or as the items of one list."""
        if len(arguments) > 1:
            return [self._number(node) for node in arguments]
        value = self._value(arguments[0])
        items = value if isinstance(value, list) else [value]
        if not items:
            raise _Uncomputable(f"{_cut(render(arguments[0]))} is empty; min and max need a number")
        return [self._number(Constant(item)) if _is_scalar(item) else self._number(arguments[0]) for item in items]

    def _matches(self, node: Node, pattern: Node) -> bool:
        text = self._value(node)
        if not isinstance(text, str):
            raise _Uncomputable(f"{_cut(render(node))} is {_kind(text)}; matches takes text")
        if len(text) > MAX_MATCHED_CHARACTERS:
            raise _Uncomputable(
                f"{_cut(render(node))} has {len(text)} characters; matches takes up to {MAX_MATCHED_CHARACTERS}"
            )
        try:
            found, spent = Pattern(str(self._value(pattern))).find(text, self._steps)
        except OutOfSteps:
            raise _Uncomputable("the patterns need too many steps on this text; make them simpler") from None
        self._steps -= spent
        return found


def _leads_on(value: Any, part: str | int) -> bool:
    if isinstance(part, str):
        return isinstance(value, dict) and part in value
    return isinstance(value, list) and part < len(value)


def _ordered(op: str, one: Any, other: Any) -> bool:
    for value in (one, other):
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _Uncomputable(f"{_kind(value)} has no order; only numbers and texts can be compared by {op}")
    if isinstance(one, str) is not isinstance(other, str):
        raise _Uncomputable(f"{_kind(one)} and {_kind(other)} cannot be compared by {op}")
    return _ORDER[op](one, other)


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, list):
        return any(_equal(item, part) for item in whole)
    if isinstance(whole, str | dict) and isinstance(part, str):
        return part in whole
    raise _Uncomputable(f"{_kind(part)} cannot be in {_kind(whole)}; in takes a list, a text or an object on its right")


def _equal(one: Any, other: Any, depth: int = 0) -> bool:
    """Compare as JSON: 1 equals 1.0, but true is not 1."""
    if depth > _MAX_COMPARED_DEPTH:
        raise _Uncomputable(f"the values are nested deeper than {_MAX_COMPARED_DEPTH} levels")
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key], depth + 1) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other, [depth + 1] * len(one)))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _place(node: Node) -> str | None:
    return render(node) if isinstance(node, Path) else None


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _kind(value: Any) -> str:
    """Name the type of a value as JSON has it."""
    kinds: list[tuple[type, str]] = [
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "a text"),
        (list, "a list"),
        (dict, "an object"),
    ]
    return "null" if value is None else next((name for kind, name in kinds if isinstance(value, kind)), "no JSON value")


def _shown(value: Any) -> Any:
    """Shorten a value for a report: numbers stay, long texts are cut, lists and objects are only named."""
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list) and len(value) <= 10 and all(_is_scalar(item) for item in value):
        return [_shown(item) for item in value]
    return f"{_kind(value)} of {len(value)} items" if isinstance(value, list | dict) else _kind(value)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
