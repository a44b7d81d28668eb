"""Splits a goal into tokens; names of files and columns are recognised first, because they may hold any characters."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from raa_router.offline.prompt import Source
from raa_router.offline.words import VOCABULARY

Kind = Literal["file", "column", "path", "number", "text", "word", "symbol"]

_QUOTED = re.compile(r"`([^`]+)`|\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|‘([^’]+)’|(?<!\w)'([^']+)'(?!\w)")  # noqa: RUF001
_PATH = re.compile(r"(?<![\w.])[\w~][\w\-]*(?:[./\\][\w\-]+)*\.[A-Za-z][A-Za-z0-9]{0,7}(?![\w/\\])")
_DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?(?!\w)|\d{1,2}:\d{2}(?::\d{2})?(?!\w)"
)
_NUMBER = re.compile(r"(?:(?<!\w)-)?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w])")
_WORD = re.compile(r"[^\W\d_](?:[\w]|['’-](?=\w))*")  # noqa: RUF001
_SYMBOL = re.compile(r">=|<=|!=|<>|==|=>|=<|.", re.DOTALL)
_PARTS = re.compile(r"[^\W_]+")
_NEAR = 0.86
_INT_DIGITS = 18
_NEAR_LENGTH = 5
_STEM_LENGTH = 3


@dataclass(frozen=True)
class Token:
    """A piece of the goal. A column token holds every column name it may mean, best first, in `names`.

    `weak` marks a column whose name is an ordinary word of goals, such as `count`: it may be meant as the word.
    """

    kind: Kind
    text: str
    names: tuple[str, ...] = ()
    weak: bool = False

    @property
    def number(self) -> int | float | None:
        """Return the value of a number token, and None for a number that no float can hold."""
        if not any(sign in self.text for sign in ".eE") and len(self.text) <= _INT_DIGITS:
            return int(self.text)
        value = float(self.text)
        return value if math.isfinite(value) else None

    @property
    def word(self) -> str:
        """Return the token in lower case, for comparison with the vocabulary."""
        return self.text.casefold().replace("’", "'")  # noqa: RUF001


@dataclass(frozen=True)
class _Name:
    kind: Kind
    name: str
    pattern: re.Pattern[str]
    rank: int  # how exactly the pattern spells the name; 0 is exact


@dataclass(frozen=True)
class _Found:
    end: int
    rank: int
    kind: Kind
    name: str


def tokenize(goal: str, sources: Sequence[Source]) -> list[Token]:
    """Split `goal`; names are matched exactly first, then up to case, then up to separators, then up to a typo."""
    names = list(_names(sources, goal.casefold()))
    tokens: list[Token] = []
    place = 0
    while place < len(goal):
        if goal[place].isspace():
            place += 1
            continue
        token, place = _next(goal, place, names)
        tokens.append(token)
    return [_mended(token, sources) for token in tokens]


def columns_like(text: str, columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that `text` spells, up to case and separators, best first."""
    ranked = [(rank, column) for column in columns if (rank := _spelling(text, column)) is not None]
    return tuple(column for _, column in sorted(ranked, key=lambda item: item[0]))


def _spelling(text: str, column: str) -> int | None:
    if text == column:
        return 0
    if text.casefold() == column.casefold():
        return 1
    parts = _parts(column)
    return 2 if parts and _parts(text) == parts else None


def _parts(name: str) -> str:
    return "".join(_PARTS.findall(name)).casefold()


def _names(sources: Sequence[Source], goal: str) -> Iterator[_Name]:
    """Yield the patterns of the names that may occur in `goal`, which is given in lower case."""
    for source in sources:
        base = _base(source)
        stem = base.rpartition(".")[0]
        for rank, spelled in enumerate(dict.fromkeys((source.name, base))):
            yield _Name("file", source.name, _exactly(spelled, re.IGNORECASE), rank)
        if len(stem) >= _STEM_LENGTH and _unique_stem(stem, sources):
            yield _Name("file", source.name, _exactly(stem, re.IGNORECASE), 2)
    for column in dict.fromkeys(column for source in sources for column in source.columns):
        if column.casefold() in goal:
            yield _Name("column", column, _exactly(column), 0)
            yield _Name("column", column, _exactly(column, re.IGNORECASE), 1)
        parts = [part.casefold() for part in _PARTS.findall(column)]
        if parts and all(part in goal for part in parts):
            yield _Name("column", column, _loosely(column), 2)


def _unique_stem(stem: str, sources: Sequence[Source]) -> bool:
    """Refuse a stem that is a word of goals, a column, or shared by two inputs."""
    if stem.casefold() in VOCABULARY or any(columns_like(stem, source.columns) for source in sources):
        return False
    return [_base(source).rpartition(".")[0] for source in sources].count(stem) == 1


def _base(source: Source) -> str:
    """Return the name of a file without its folders."""
    return source.name.replace("\\", "/").rpartition("/")[2]


def _exactly(name: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    return re.compile(_bounded(name, re.escape(name)), flags)


def _loosely(name: str) -> re.Pattern[str]:
    """Match the same letters and digits with other separators, and a plural."""
    parts = [re.escape(part) for part in _PARTS.findall(name)]
    closing = r"\)?" if name.endswith(")") else ""
    plural = "s?" if name[-1:].isalpha() and len(name) > 2 else ""
    spelled = r"[\s_\-./()\[\]]{0,3}".join(parts) + closing + plural
    return re.compile(_bounded(")" if closing else "x", spelled), re.IGNORECASE)


def _bounded(name: str, pattern: str) -> str:
    before = r"(?<!\w)" if name[:1].isalnum() or name[:1] in "_)" else ""
    after = r"(?!\w)" if name[-1:].isalnum() or name[-1:] in "_)" else ""
    return f"{before}{pattern}{after}"


def _next(goal: str, place: int, names: Sequence[_Name]) -> tuple[Token, int]:
    if quoted := _QUOTED.match(goal, place):
        return _quoted(next(group for group in quoted.groups() if group), names), quoted.end()
    path = _PATH.match(goal, place)
    found = _longest(goal, place, names)
    if found and (path is None or found[0].end >= path.end()):
        return _named(goal[place : found[0].end], found), found[0].end
    if path is not None:
        return Token("path", path[0]), path.end()
    kinds: tuple[tuple[Kind, re.Pattern[str]], ...] = (
        ("text", _DATE), ("number", _NUMBER), ("word", _WORD), ("symbol", _SYMBOL),
    )  # fmt: skip
    for kind, pattern in kinds:
        if match := pattern.match(goal, place):
            return Token(kind, match[0]), match.end()
    return Token("symbol", goal[place]), place + 1


def _longest(goal: str, place: int, names: Sequence[_Name]) -> list[_Found]:
    """Return all names that match the longest stretch of text at `place`, most exact first."""
    matches = ((name, name.pattern.match(goal, place)) for name in names)
    found = [_Found(match.end(), name.rank, name.kind, name.name) for name, match in matches if match and match[0]]
    if not found:
        return []
    end = max(item.end for item in found)
    return sorted((item for item in found if item.end == end), key=lambda item: (item.kind != "file", item.rank))


def _named(text: str, found: Sequence[_Found]) -> Token:
    kind = found[0].kind
    names = tuple(dict.fromkeys(item.name for item in found if item.kind == kind))
    weak = kind == "column" and text.casefold() in VOCABULARY
    return Token(kind, text, names, weak=weak)


def _quoted(text: str, names: Sequence[_Name]) -> Token:
    found = [item for item in _longest(text, 0, names) if item.end == len(text)]
    if not found:
        return Token("path", text) if _PATH.fullmatch(text) else Token("text", text)
    named = _named(text, found)
    return Token(named.kind, text, named.names)


def _mended(token: Token, sources: Sequence[Source]) -> Token:
    """Take a word that is in no vocabulary as the one column that begins with it or that it misspells."""
    if token.kind != "word" or token.word in VOCABULARY:
        return token
    columns = list(dict.fromkeys(column for source in sources for column in source.columns))
    for near in (_beginning_with, _misspelt):
        alike = [column for column in columns if near(token.word, column)]
        if len({_parts(column) for column in alike}) == 1:
            return Token("column", token.text, tuple(alike))
    return token


def _beginning_with(word: str, column: str) -> bool:
    """Say whether `word` is the whole first part of a longer name, as in `load` for `load (kN)`."""
    parts = [part.casefold() for part in _PARTS.findall(column)]
    return len(parts) > 1 and parts[0] == word


def _misspelt(word: str, column: str) -> bool:
    if min(len(word), len(column)) < _NEAR_LENGTH or word[0] != column[0].casefold():
        return False
    return float(SequenceMatcher(None, word, column.casefold(), autojunk=False).ratio()) >= _NEAR
