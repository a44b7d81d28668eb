"""Text patterns that match in time linear in the text: the regular subset of regular expressions, run as an automaton.

It deliberately has no backtracking, so no pattern of a client can hang a service. Anchors `^` and `$`, `.`, classes,
groups, `|`, `*`, `+`, `?`, `{n}`, `{n,}` and `{n,m}` exist; back references and look-around do not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MAX_STATES = 400
"""States of the automaton; counted repetitions are written out, so `a{100}` needs 100."""

MAX_REPEAT = 100
_MAX_GROUP_DEPTH = 20
_KNOWN_SETS = 2_000
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": lambda character: character.isalnum() or character == "_",
    "s": str.isspace,
}
_START, _END = "^", "$"


class PatternError(ValueError):
    """The pattern does not parse or needs too many states; `position` counts its characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class OutOfSteps(RuntimeError):
    """The match needed more steps than it was given."""


@dataclass(slots=True)
class _State:
    """One state: consumes a character that `accepts`, or goes on without one, through an anchor if it has one."""

    accepts: Callable[[str], bool] | None = None
    anchor: str = ""
    targets: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the automaton: where it begins, and the states whose targets are still open."""

    start: int
    open: tuple[int, ...]


class Pattern:
    """A compiled pattern; raises PatternError. It may match anywhere in a text; anchor it to match all of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._states, self._start, self._final = _Compiler(text).compile()

    def found_in(self, text: str, steps: int = 1_000_000) -> bool:
        """Say whether some part of `text` matches; raises OutOfSteps after about `steps` automaton steps."""
        return self.find(text, steps)[0]

    def find(self, text: str, steps: int) -> tuple[bool, int]:
        """Search as `found_in` does; also returns the steps it took."""
        spent = 0
        first = self._close([self._start], at_start=True, at_end=not text)
        again = self._close([self._start], at_start=False, at_end=False)
        last = self._close([self._start], at_start=False, at_end=True)
        known: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        current = first
        for position, character in enumerate(text):
            if self._final in current:
                return True, spent
            at_end = position + 1 == len(text)
            key = (current, character)
            following = None if at_end else known.get(key)
            if following is None:
                spent += len(current)
                following = self._step(current, character, at_end=at_end) | (last if at_end else again)
                if not at_end and len(known) < _KNOWN_SETS:
                    known[key] = following
            spent += 1
            if spent > steps:
                raise OutOfSteps("the pattern needs too many steps on this text")
            current = following
        return self._final in current, spent

    def _step(self, current: Iterable[int], character: str, *, at_end: bool) -> frozenset[int]:
        reached: list[int] = []
        for number in current:
            state = self._states[number]
            if state.accepts is not None and state.accepts(character):
                reached.extend(state.targets)
        return self._close(reached, at_start=False, at_end=at_end)

    def _close(self, numbers: Iterable[int], *, at_start: bool, at_end: bool) -> frozenset[int]:
        """Add every state that is reached without a character."""
        closed: set[int] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            state = self._states[number]
            if number in closed or (state.anchor == _START and not at_start) or (state.anchor == _END and not at_end):
                continue
            closed.add(number)
            if state.accepts is None:
                waiting.extend(state.targets)
        return frozenset(closed)


class _Compiler:
    """Thompson's construction by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._depth = 0
        self._states: list[_State] = []

    def compile(self) -> tuple[list[_State], int, int]:
        """Build the automaton; returns its states, the first and the final one."""
        piece = self._alternatives()
        if self._place < len(self._text):
            raise self._error("')' closes nothing; write '\\)' for the character")
        final = self._add()
        self._join(piece, final)
        return self._states, piece.start, final

    def _error(self, message: str) -> PatternError:
        return PatternError(message, self._place)

    def _peek(self) -> str:
        return self._text[self._place : self._place + 1]

    def _take(self) -> str:
        character = self._peek()
        self._place += 1
        return character

    def _add(self, accepts: Callable[[str], bool] | None = None, anchor: str = "", targets: Iterable[int] = ()) -> int:
        if len(self._states) >= MAX_STATES:
            raise self._error(f"the pattern needs more than {MAX_STATES} states; make its repetitions smaller")
        self._states.append(_State(accepts, anchor, list(targets)))
        return len(self._states) - 1

    def _join(self, piece: _Piece, target: int) -> None:
        for number in piece.open:
            self._states[number].targets.append(target)

    def _alternatives(self) -> _Piece:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._place += 1
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        fork = self._add(targets=[branch.start for branch in branches])
        return _Piece(fork, tuple(number for branch in branches for number in branch.open))

    def _sequence(self) -> _Piece:
        empty = self._add()
        piece = _Piece(empty, (empty,))
        while self._peek() not in {"", "|", ")"}:
            following = self._repeated()
            self._join(piece, following.start)
            piece = _Piece(piece.start, following.open)
        return piece

    def _repeated(self) -> _Piece:
        begin = self._place
        piece = self._atom()
        end = self._place
        bounds = self._quantifier()
        if bounds is None:
            return piece
        if self._peek() and self._peek() in "*+?{":
            raise self._error("a repetition cannot be repeated; put the part in parentheses")
        after = self._place
        built = self._write_out(piece, (begin, end), *bounds)
        self._place = after
        return built

    def _quantifier(self) -> tuple[int, int | None] | None:
        """Read a quantifier as least and most; most is None for no limit."""
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if (character := self._peek()) in simple:
            self._place += 1
            return simple[character]
        return self._counted() if character == "{" else None

    def _counted(self) -> tuple[int, int | None]:
        close = self._text.find("}", self._place)
        low, comma, high = self._text[self._place + 1 : max(close, 0)].partition(",")
        parts = [low, high] if comma and high else [low]
        if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
            raise self._error("write a repetition as {n}, {n,} or {n,m}; write '\\{' for the character")
        least = int(low)
        most = int(high) if high else None if comma else least
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            raise self._error(f"repeat 0 to {MAX_REPEAT} times, the smaller number first")
        self._place = close + 1
        return least, most

    def _write_out(self, first: _Piece, source: tuple[int, int], least: int, most: int | None) -> _Piece:
        """Write a repetition out: `least` copies, then a loop or optional copies up to `most`."""
        unused = [first]

        def copy() -> _Piece:
            return unused.pop() if unused else self._again(*source)

        start = self._add()
        piece = _Piece(start, (start,))
        for _ in range(least):
            part = copy()
            self._join(piece, part.start)
            piece = _Piece(start, part.open)
        if most is None:
            part = copy()
            loop = self._add(targets=[part.start])
            self._join(piece, loop)
            self._join(part, loop)
            return _Piece(start, (loop,))
        leaves: list[int] = []
        for _ in range(most - least):
            part = copy()
            self._join(piece, part.start)
            leaves.extend(piece.open)
            piece = _Piece(start, part.open)
        return _Piece(start, (*leaves, *piece.open))

    def _again(self, begin: int, end: int) -> _Piece:
        self._place = begin
        piece = self._atom()
        if self._place != end:
            raise self._error("this part cannot be repeated")
        return piece

    def _atom(self) -> _Piece:
        character = self._take()
        if character == "(":
            return self._group()
        if character in "*+?{":
            self._place -= 1
            raise self._error(f"{character!r} repeats nothing; write '\\{character}' for the character")
        if character in (_START, _END):
            number = self._add(anchor=character)
        elif character == "[":
            number = self._add(self._bracket())
        elif character == ".":
            number = self._add(lambda found: found != "\n")
        elif character == "\\":
            number = self._add(self._escape())
        else:
            number = self._add(_equal_to(character))
        return _Piece(number, (number,))

    def _group(self) -> _Piece:
        if self._text.startswith("?:", self._place):
            self._place += 2
        elif self._peek() == "?":
            raise self._error("only plain groups ( ) and (?: ) exist; there is no look-around")
        self._depth += 1
        if self._depth > _MAX_GROUP_DEPTH:
            raise self._error(f"groups are nested deeper than {_MAX_GROUP_DEPTH} levels")
        piece = self._alternatives()
        if self._take() != ")":
            raise self._error("a group is not closed; add ')'")
        self._depth -= 1
        return piece

    def _escape(self) -> Callable[[str], bool]:
        character = self._take()
        if (known := _CLASSES.get(character.lower())) is not None:
            return known if character.islower() else _negated(known)
        return _equal_to(self._escaped(character))

    def _escaped(self, character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        if not character or character.isalnum():
            self._place -= 1
            raise self._error(f"'\\{character}' is not known; use \\d \\w \\s, their capitals, or escape a sign")
        return character

    def _bracket(self) -> Callable[[str], bool]:
        negate = self._peek() == "^"
        self._place += negate
        tests: list[Callable[[str], bool]] = []
        while self._peek() != "]" or not tests:
            if not self._peek():
                raise self._error("a class is not closed; add ']'")
            tests.append(self._member())
        self._place += 1
        any_of = _any_of(tests)
        return _negated(any_of) if negate else any_of

    def _member(self) -> Callable[[str], bool]:
        low = self._take()
        if low == "\\":
            low = self._take()
            if (known := _CLASSES.get(low.lower())) is not None:
                return known if low.islower() else _negated(known)
            low = self._escaped(low)
        if self._peek() != "-" or self._text[self._place + 1 : self._place + 2] in {"]", ""}:
            return _equal_to(low)
        self._place += 1
        high = self._take()
        high = self._escaped(self._take()) if high == "\\" else high
        if high < low:
            raise self._error(f"the range {low}-{high} is empty; the smaller character comes first")
        return _between(low, high)


def _equal_to(character: str) -> Callable[[str], bool]:
    return lambda found: found == character


def _between(low: str, high: str) -> Callable[[str], bool]:
    return lambda found: low <= found <= high


def _negated(test: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda found: not test(found)


def _any_of(tests: list[Callable[[str], bool]]) -> Callable[[str], bool]:
    return lambda found: any(test(found) for test in tests)
