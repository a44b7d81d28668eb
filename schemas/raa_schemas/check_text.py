"""Writes the tree of a success check as text: what a report names, and what parses to the same tree again."""

from typing import Any

from raa_schemas.check_syntax import (
    All,
    AnyOf,
    Call,
    Chain,
    Comparison,
    Constant,
    ListOf,
    Negative,
    Node,
    Not,
    Path,
    is_plain_name,
)

_RANK: dict[type[Node], int] = {AnyOf: 0, All: 1, Not: 2, Comparison: 3, Chain: 4, Negative: 6}
_SUM, _TERM, _UNARY, _ATOM = 4, 5, 6, 7


def render(node: Node) -> str:  # noqa: PLR0911  # one return per kind of node
    """Write a tree with as few parentheses as its grammar allows."""
    match node:
        case Constant(value):
            return _constant(value)
        case Path(root, parts):
            return root + "".join(_part(part) for part in parts)
        case ListOf(items):
            return f"[{', '.join(render(item) for item in items)}]"
        case Call(function, arguments):
            return f"{function}({', '.join(render(item) for item in arguments)})"
        case Negative(operand):
            return "-" + _within(operand, _ATOM)
        case Chain(first, rest):
            rank = _rank(node) + 1
            return _within(first, rank) + "".join(f" {op} {_within(item, rank)}" for op, item in rest)
        case Comparison(op, left, right):
            return f"{_within(left, _SUM)} {op} {_within(right, _SUM)}"
        case Not(operand):
            return f"not {_within(operand, 3)}"
        case All(operands):
            return " and ".join(_within(item, 2) for item in operands)
        case AnyOf(operands):
            return " or ".join(_within(item, 1) for item in operands)


def _rank(node: Node) -> int:
    if isinstance(node, Chain):
        return _SUM if node.rest[0][0] in "+-" else _TERM
    return _RANK.get(type(node), _ATOM)


def _within(node: Node, rank: int) -> str:
    text = render(node)
    return text if _rank(node) >= rank else f"({text})"


def _part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if is_plain_name(part) else f"[{_quoted(part)}]"


def _constant(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    for sign, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(sign, escape)
    return f'"{text}"'
