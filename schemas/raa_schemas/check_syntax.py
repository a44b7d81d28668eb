"""Reads the text of a success check into a tree, and writes a tree back; it knows nothing of values (see `check`)."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn

from raa_schemas.pattern import Pattern, PatternError

MAX_CHARACTERS = 500
MAX_DEPTH = 20

CompareOp = Literal["==", "!=", "<", "<=", ">", ">=", "in"]
ArithmeticOp = Literal["+", "-", "*", "/"]
Function = Literal["len", "abs", "min", "max", "round", "exists", "matches"]

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign><=|>=|==|!=|[<>+\-*/().,\[\]])
""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">=", "in"}
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_ROOTS = ("result", "outputs", "artifacts")
_ARGUMENTS: dict[str, tuple[int, int]] = {
    "len": (1, 1),
    "abs": (1, 1),
    "min": (1, 50),
    "max": (1, 50),
    "round": (1, 2),
    "exists": (1, 1),
    "matches": (2, 2),
}
_RESERVED = {*_CONSTANTS, *_ROOTS, *_ARGUMENTS, "and", "or", "not", "in"}


class CheckSyntaxError(ValueError):
    """The check does not parse. `position` counts its characters from 0; the message says what to write instead."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.position = position


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, text, true, false or null."""

    value: float | str | bool | None


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Path:
    """A place in what the task produced: `result`, `outputs.<step>` or `artifacts`, and the way down from there."""

    root: str
    parts: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one of the seven functions."""

    function: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Negative:
    """A value with a minus before it."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Chain:
    """Values joined by operators of one rank, from left to right."""

    first: "Node"
    rest: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two values and what must hold between them."""

    op: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class All:
    """Operands joined by `and`; at least two."""

    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Operands joined by `or`; at least two."""

    operands: tuple["Node", ...]


Node = Constant | ListOf | Path | Call | Negative | Chain | Comparison | Not | All | AnyOf


@dataclass(frozen=True, slots=True)
class Check:
    """A success check that parses."""

    text: str
    root: Node

    def steps(self) -> frozenset[str]:
        """Name the steps whose outputs the check looks at."""
        return frozenset(str(path.parts[0]) for path in _paths(self.root) if path.root == "outputs")

    def looks_at_result(self) -> bool:
        """Say whether the check looks at the plan's result."""
        return any(path.root == "result" for path in _paths(self.root))


def parse_check(text: str) -> Check:
    """Parse a check of at most 500 characters and 20 levels; raises CheckSyntaxError."""
    if len(text) > MAX_CHARACTERS:
        raise CheckSyntaxError(
            f"the check has {len(text)} characters; at most {MAX_CHARACTERS} are allowed", MAX_CHARACTERS
        )
    return Check(text, _Parser(text).parse())


def children(node: Node) -> tuple[Node, ...]:
    """List the parts of a node."""
    match node:
        case ListOf(items):
            return items
        case Call(_, arguments):
            return arguments
        case Negative(operand) | Not(operand):
            return (operand,)
        case Chain(first, rest):
            return (first, *(item for _, item in rest))
        case Comparison(_, left, right):
            return (left, right)
        case All(operands) | AnyOf(operands):
            return operands
        case _:
            return ()


def _paths(node: Node) -> Iterator[Path]:
    if isinstance(node, Path):
        yield node
    for child in children(node):
        yield from _paths(child)


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise CheckSyntaxError(_unreadable(text[place]), place)
        if found.lastgroup != "space":
            yield _Token(str(found.lastgroup), found.group(), place)
        place = found.end()
    yield _Token("end", "", len(text))


def _unreadable(character: str) -> str:
    if character in "\"'":
        return f"the text is not closed; add {character}"
    hints = {"=": "compare with ==", "!": "write != or not", "&": "write and", "|": "write or"}
    return f"{character!r} has no meaning here; {hints.get(character, 'see docs/checks.md for what may be written')}"


class _Parser:
    """Recursive descent, one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._place = 0
        self._depth = 0

    def parse(self) -> Node:
        """Read the whole check."""
        if self._next.kind == "end":
            self._fail("the check is empty; write for example result >= 0")
        node = self._or()
        if self._next.kind != "end":
            self._fail(f"nothing may follow here, found {self._next.text!r}; join conditions with and, or")
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _fail(self, message: str, position: int | None = None) -> NoReturn:
        raise CheckSyntaxError(message, self._next.position if position is None else position)

    def _accept(self, *texts: str) -> _Token | None:
        token = self._next
        if token.kind not in {"sign", "name"} or token.text not in texts:
            return None
        self._place += 1
        return token

    def _expect(self, text: str, message: str) -> None:
        if self._accept(text) is None:
            self._fail(message)

    def _or(self) -> Node:
        operands = self._joined("or", self._and)
        return operands[0] if len(operands) == 1 else AnyOf(operands)

    def _and(self) -> Node:
        operands = self._joined("and", self._not)
        return operands[0] if len(operands) == 1 else All(operands)

    def _joined(self, word: str, rule: Callable[[], Node]) -> tuple[Node, ...]:
        operands = [rule()]
        while self._accept(word):
            operands.append(rule())
        return tuple(operands)

    def _not(self) -> Node:
        return Not(self._comparison()) if self._accept("not") else self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        if (op := self._accept(*_COMPARISONS)) is None:
            return left
        node = Comparison(op.text, left, self._sum())
        if self._next.text in _COMPARISONS and self._next.kind in {"sign", "name"}:
            self._fail("comparisons cannot be chained; write a < b and b < c")
        return node

    def _sum(self) -> Node:
        return self._chain(("+", "-"), self._term)

    def _term(self) -> Node:
        return self._chain(("*", "/"), self._unary)

    def _chain(self, ops: tuple[str, ...], rule: Callable[[], Node]) -> Node:
        first = rule()
        rest: list[tuple[str, Node]] = []
        while (op := self._accept(*ops)) is not None:
            rest.append((op.text, rule()))
        return Chain(first, tuple(rest)) if rest else first

    def _unary(self) -> Node:
        return Negative(self._atom()) if self._accept("-") else self._atom()

    def _atom(self) -> Node:
        token = self._next
        if token.kind == "number":
            return self._number()
        if token.kind == "string":
            self._place += 1
            return Constant(_unquote(token.text))
        if self._accept("("):
            return self._nested(self._group)
        if self._accept("["):
            return self._nested(self._list)
        if token.kind == "name":
            return self._named(token)
        return self._fail("a value is missing here; write result, a number, a text or a path")

    def _nested(self, rule: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"the check is nested deeper than {MAX_DEPTH} levels; make it flatter")
        node = rule()
        self._depth -= 1
        return node

    def _number(self) -> Node:
        text = self._next.text
        value: float = int(text) if text.isdecimal() else float(text)
        if not math.isfinite(value):
            self._fail(f"the number {text} is too large")
        self._place += 1
        return Constant(value)

    def _group(self) -> Node:
        node = self._or()
        self._expect(")", "a parenthesis is not closed; add )")
        return node

    def _list(self) -> Node:
        return ListOf(self._items("]", "the list is not closed; add ]"))

    def _items(self, close: str, message: str) -> tuple[Node, ...]:
        if self._accept(close):
            return ()
        items = self._joined(",", self._or)
        self._expect(close, message)
        return items

    def _named(self, token: _Token) -> Node:
        self._place += 1
        if token.text in _CONSTANTS:
            return Constant(_CONSTANTS[token.text])
        if token.text in _ROOTS:
            return self._path(token)
        if token.text in _ARGUMENTS and self._accept("("):
            return self._nested(lambda: self._call(token))
        if token.text in _ARGUMENTS:
            return self._fail(f"{token.text} is a function; write {token.text}(…)")
        return self._fail(
            f"{token.text!r} is not known; a check speaks of result, outputs.<step> and artifacts, and knows the "
            f"functions {', '.join(_ARGUMENTS)}",
            token.position,
        )

    def _path(self, token: _Token) -> Path:
        parts: list[str | int] = []
        while (opened := self._accept(".", "[")) is not None:
            parts.append(self._field() if opened.text == "." else self._index())
        if token.text == "outputs" and (not parts or not isinstance(parts[0], str)):
            self._fail('outputs needs the id of a step; write outputs.<step> or outputs["<step>"]')
        return Path(token.text, tuple(parts))

    def _field(self) -> str:
        token = self._next
        if token.kind != "name":
            self._fail('a name belongs after the dot; write ["…"] for other names and [0] for a place in a list')
        self._place += 1
        return token.text

    def _index(self) -> str | int:
        token = self._next
        if token.kind == "string":
            part: str | int = _unquote(token.text)
        elif token.kind == "number" and token.text.isdecimal():
            part = int(token.text)
        else:
            self._fail('write a place in a list, [0], or a name, ["name"]')
        self._place += 1
        self._expect("]", "the bracket is not closed; add ]")
        return part

    def _call(self, token: _Token) -> Call:
        arguments = self._items(")", "the call is not closed; add )")
        low, high = _ARGUMENTS[token.text]
        if not low <= len(arguments) <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            self._fail(f"{token.text} takes {wanted} arguments, found {len(arguments)}", token.position)
        if token.text == "exists" and not isinstance(arguments[0], Path):
            self._fail("exists takes a path, for example exists(result.rows)", token.position)
        if token.text == "matches":
            self._check_pattern(arguments[1], token.position)
        return Call(token.text, arguments)

    def _check_pattern(self, pattern: Node, position: int) -> None:
        """Refuse a bad pattern when the task is admitted, not when it has run."""
        if not isinstance(pattern, Constant) or not isinstance(pattern.value, str):
            self._fail('matches takes a value and a pattern written as text, matches(result, "^a")', position)
        try:
            Pattern(pattern.value)
        except PatternError as error:
            self._fail(f"the pattern {pattern.value!r} does not parse: {error}", position)


def _unquote(text: str) -> str:
    """Resolve escapes; an unknown one stays as it is, so that a pattern needs no second backslash."""
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[0]), text[1:-1])


def is_plain_name(text: str) -> bool:
    """Say whether a name may stand after a dot."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None
