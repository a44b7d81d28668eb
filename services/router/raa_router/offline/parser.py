"""Understands goals about tables, by slots: each rule takes the words it knows, and what no rule takes stays unmatched.

A goal with an unmatched word is not understood, however much of the rest is: a wrong answer costs more than none.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from raa_router.offline.cursor import Cursor
from raa_router.offline.lexer import Token
from raa_router.offline.request import Filter, Measure, NotUnderstoodError, Request
from raa_router.offline.words import (
    ALL_FILES,
    ASCENDING,
    COMPARE,
    DESCENDING,
    FILTER_STARTS,
    FUNCTIONS,
    GROUP,
    ROW_NOUNS,
    SILENT,
    SUFFIX_OPERATORS,
    VOCABULARY,
    WRITE,
)

_MAX_WEAK = 6
_LINKS = frozenset({"of", "the", "value", "values", "for", "column", "field", "columns", "fields", "all", "a", "each"})
_COUNTING = (("total", "number", "of"), ("number", "of"), ("how", "many"), ("total", "count"))
_LEADING = frozenset({"of", "by", "per", "each", "where"})
_ROWS = frozenset({"rows", "row", "records", "record", "lines", "entries"})
_COMPARATIVES = frozenset({"larger", "higher", "greater", "bigger", "lower", "smaller"})
_CATEGORIES = frozenset(
    {"type", "types", "group", "groups", "category", "categories", "class", "classes", "kind", "kinds"}
)
_QUANTITIES = ROW_NOUNS - {"data"} | {"level", "levels", "value", "values", "amount", "amounts"}
_PUNCTUATION = frozenset(",.;:?!()")
_REPORT_BEFORE = frozenset({"a", "short", "brief", "small", "the", "markdown", "text", "summary", "simple"})


def parse(tokens: Sequence[Token], files: Sequence[str] = ()) -> Request:
    """Read the tokens as a request; a column named like an ordinary word is tried as both.

    `files` are the names of all inputs: `how many wines` counts the rows of a file that has `wine` in its name.

    Raises:
        NotUnderstoodError: no reading leaves every word matched; the message names the words.
    """
    weak = [place for place, token in enumerate(tokens) if token.weak][:_MAX_WEAK]
    led = [place > 0 and (tokens[place - 1].word in _LEADING or tokens[place - 1].word in FUNCTIONS) for place in weak]

    def likely(reading: tuple[bool, ...]) -> tuple[int, int]:
        """Rank readings: few words taken as columns first, of equals those behind a word that leads to a column."""
        return sum(reading), sum(chosen and not leads for chosen, leads in zip(reading, led, strict=True))

    readings = sorted(product((False, True), repeat=len(weak)), key=likely)
    requests = (_read(tokens, dict(zip(weak, reading, strict=True)), files) for reading in readings)
    first: Request | None = None
    for request in requests:
        if not request.unmatched and not request.lacking:
            return request
        first = first or request
    raise NotUnderstoodError(_unmatched(first.unmatched if first else [], first.lacking if first else []))


def _read(tokens: Sequence[Token], as_column: dict[int, bool], files: Sequence[str]) -> Request:
    chosen = [token if as_column.get(place, True) else Token("word", token.text) for place, token in enumerate(tokens)]
    return _Parser(chosen, files).request()


def _unmatched(words: Sequence[str], lacking: Sequence[str]) -> str:
    if not words:
        return f"the goal asks for the {' and the '.join(lacking)} of no column that an input has; name one"
    asked = ", ".join(f"'{word}'" for word in dict.fromkeys(words))
    return (
        f"the goal asks for {asked}, which is no input, no column and nothing the offline model has a rule for; it "
        "computes count, sum, mean, median, min, max and stddev of columns (by group, filtered, top n), compares them, "
        "does arithmetic, writes short reports and follows `use TOOL with name=value`"
    )


class _Parser(Cursor):
    """Walks over the tokens once; each rule consumes what it understands and says whether it did."""

    def __init__(self, tokens: Sequence[Token], files: Sequence[str]) -> None:
        super().__init__(tokens)
        self._files = " ".join(files).casefold()
        self._at = 0
        self._pending: list[str] = []
        self._ranking = False
        self._asked = Request()

    def request(self) -> Request:
        """Run the rules until no token is left."""
        rules: tuple[Callable[[], bool], ...] = (
            self._file, self._path, self._write, self._every_file, self._which, self._top, self._grouping,
            self._filter, self._function, self._switch, self._column, self._silent,
        )  # fmt: skip
        while self._at < len(self.tokens):
            if not any(rule() for rule in rules):
                self._asked.unmatched.append(self.tokens[self._at].text)
                self._at += 1
        self._finish()
        return self._asked

    def _file(self) -> bool:
        token = self.tokens[self._at]
        if token.kind != "file":
            return False
        wanted = self._asked.writes and self._asked.path is None and self.word(self._at - 1) in {"to", "into", "as"}
        if wanted:
            self._asked.unmatched.append(f"overwriting the input {token.names[0]}")
        self._asked.mentions.append(token.names[0])
        self._at += 1
        return True

    def _path(self) -> bool:
        token = self.tokens[self._at]
        goes_there = self._asked.writes or self.word(self._at - 1) in {"to", "into", "as"}
        if token.kind != "path" or not goes_there or self._asked.path is not None:
            return False
        self._asked.path = token.text
        self._at += 1
        return True

    def _write(self) -> bool:
        word = self.word(self._at)
        if word == "report" and self.word(self._at - 1) in _REPORT_BEFORE | WRITE:
            self._asked.report = True
        if word not in WRITE:
            return False
        self._asked.writes = True
        self._at += 1
        return True

    def _every_file(self) -> bool:
        phrase = self.phrase(self._at, ALL_FILES)
        if phrase is None:
            return False
        self._asked.every_file = True
        self._at += len(phrase)
        return True

    def _which(self) -> bool:
        """Take `which X has the highest …` and `what X had the most rows` as the top 1 of X."""
        column, at = self.token(self._at + 1), self._at + 2
        if self.word(self._at) not in {"which", "what"} or column is None or column.kind != "column":
            return False
        at = self.skip(at, frozenset({"has", "have", "had", "with", "shows", "the", "is"}))
        word = self.word(at)
        if word not in DESCENDING | ASCENDING:
            return False
        self._asked.picks.append(column)
        self._rank(1, word)
        self._at = at + 1
        ordered = self.skip(self._at, _LINKS)
        if self.is_column(ordered):
            self._asked.order_by, self._at = self.tokens[ordered], ordered + 1
        elif word in {"most", "fewest", "least"} and self.word(self._at) in ROW_NOUNS:
            self._measure(["count"], [None])
            self._at += 1
        return True

    def _top(self) -> bool:
        """Take `top 5`, `5 highest`, `lowest 3`, and `highest mean` as the top 1 of the groups."""
        word, following = self.word(self._at), self.word(self._at + 1)
        number = self.number(self._at + 1)
        if word in DESCENDING | ASCENDING and number is not None:
            self._rank(number, word)
        elif (number := self.number(self._at)) is not None and following in DESCENDING | ASCENDING:
            self._rank(number, following)
        elif word in (DESCENDING | ASCENDING) - {"top", "bottom"} and following in FUNCTIONS:
            self._rank(1, word)
            self._at -= 1
        else:
            return False
        self._at += 2
        self._asked.whole_rows = self.word(self._at) in _ROWS
        return True

    def _rank(self, number: int, word: str) -> None:
        self._asked.top, self._asked.descending, self._ranking = number, word not in ASCENDING, True

    def _grouping(self) -> bool:
        phrase = self.phrase(self._at, GROUP)
        if phrase is None:
            return False
        at = self.skip(self._at + len(phrase), _LINKS)
        if phrase == ("by",) and self._ranking:
            return self._order(at)
        columns, end = self._columns(at)
        if not columns:
            return False
        self._asked.groups += columns
        self._at = self.skip(end, _CATEGORIES)
        return True

    def _order(self, at: int) -> bool:
        """Read what a top n is ordered by: a column, or a function that the function rule takes next."""
        self._ranking = False
        if self.word(at) in FUNCTIONS or self.phrase(at, (("number", "of"), ("how", "many"))):
            self._at = at
            return True
        column = self.token(at)
        if column is None or column.kind != "column":
            return False
        self._asked.order_by = column
        self._at = at + 1
        return True

    def _columns(self, at: int) -> tuple[list[Token], int]:
        """Read `A, B and C`; stops before a column that begins a condition."""
        columns: list[Token] = []
        end = at
        while (token := self.token(at)) is not None and token.kind == "column":
            if columns and self.operator(at + 1)[0] is not None:
                break
            columns.append(token)
            end = at + 1
            at = self.skip(end, frozenset({",", "and", "&", "the"}))
            if at == end:
                break
        return columns, end

    def _filter(self) -> bool:
        at = self._at
        triggered = self.word(at) in FILTER_STARTS | {"for", "and", "or", "that", "which", "in"}
        if triggered:
            strong = self.word(at) in FILTER_STARTS | {"for"}
            at = self.skip(
                at + 1, frozenset({"the", "a", "has", "have", "having", "with", "value", "of", "where", "only"})
            )
        else:
            strong = False
        if not self.is_column(at) or self.word(self._at) == "or":
            return False
        column = self.tokens[at]
        operator, at = self.operator(at + 1)
        if operator is None and not strong:
            return False
        found = self._between(column, at) if operator == "between" else self._compared(column, operator or "==", at)
        return found and not (operator is None and not strong)

    def _between(self, column: Token, at: int) -> bool:
        low, end = self.value(at)
        high, last = self.value(end + 1)
        if self.word(end) not in {"and", "to"} or last == end + 1:
            return False
        self._asked.filters += [Filter(column, ">=", low), Filter(column, "<=", high)]
        self._at = last
        return True

    def _compared(self, column: Token, operator: str, at: int) -> bool:
        value, end = self.value(at)
        plain = end > at and self.tokens[at].kind == "word"
        fits = isinstance(value, str) if operator == "contains" else not plain or operator in {"==", "!="}
        if end == at or not fits:
            return False
        if operator == "==" and self.word(end) == "or" and self.value(end + 1)[1] > end + 1:
            return self._listed(column, value, end)
        if self.word(end) == "or" and self.word(end + 1) in SUFFIX_OPERATORS and operator == "==":
            operator, end = SUFFIX_OPERATORS[self.word(end + 1)], end + 2
        self._asked.filters.append(Filter(column, operator, value))
        self._at = end
        return True

    def _listed(self, column: Token, first: Any, at: int) -> bool:
        """Read `is A or B or C` as one of them."""
        values = [first]
        while self.word(at) == "or" and (found := self.value(at + 1))[1] > at + 1:
            values.append(found[0])
            at = found[1]
        self._asked.filters.append(Filter(column, "in", values))
        self._at = at
        return True

    def _function(self) -> bool:
        functions, at = self._functions(self._at)
        if not functions:
            return False
        at = self.skip(at, _LINKS)
        if functions == ["count"] and self._is_row(at):
            self._measure(functions, [None])
            self._at = at + 1
            return True
        columns, end = self._columns(at)
        counted = self.phrase(self._at, _COUNTING)
        if columns and counted and self.word(end) not in _QUANTITIES:
            # `how many makers` wants different ones, which counting values would not give
            self._asked.unmatched.append(f"{' '.join(counted)} {columns[0].text}")
            self._at = end
            return True
        if columns:
            self._measure(functions, columns)
            self._at = self.skip(end, _QUANTITIES)
            return True
        self._pending += functions
        self._at = at
        return True

    def _is_row(self, at: int) -> bool:
        """Say whether a word means the rows: `rows`, `records`, or what the file is named after."""
        word = self.word(at)
        named = len(word) > 3 and word not in VOCABULARY and word.removesuffix("s") in self._files
        return word in ROW_NOUNS or named

    def _functions(self, at: int) -> tuple[list[str], int]:
        """Read `min, max and mean`; `total number of` and `how many` count."""
        functions: list[str] = []
        end = at
        while True:
            counting = self.phrase(at, _COUNTING)
            if self.phrase(at, (("standard", "deviation"), ("standard", "deviations"))):
                functions.append("stddev")
                end = at + 2
            elif counting:
                functions.append("count")
                end = at + len(counting)
            elif self.word(at) in FUNCTIONS:
                functions.append(FUNCTIONS[self.word(at)])
                end = at + 1
            else:
                return functions, end
            at = self.skip(end, frozenset({",", "and", "&", "the"}))
            if at == end:
                return functions, end

    def _measure(self, functions: Sequence[str], columns: Sequence[Token | None]) -> None:
        measures = [Measure(function, column) for column in columns for function in functions]
        self._asked.measures += measures
        self._asked.mentions += measures

    def _switch(self) -> bool:
        word = self.word(self._at)
        if word in COMPARE or (word in _COMPARATIVES and not self.is_column(self._at - 1)):
            self._asked.compare = True
            self._at += self.word(self._at + 1) == "than"
        elif word in {"profile", "describe", "summarise", "summarize"}:
            self._asked.profile = True
        elif word in {"read", "open"}:
            self._asked.read = True
        else:
            return False
        self._at += 1
        return True

    def _column(self) -> bool:
        if not self.is_column(self._at):
            return False
        columns, end = self._columns(self._at)
        if self._pending and not (self._pending == ["count"] and self._ranking):
            self._measure(self._pending, columns)
            self._pending = []
        else:
            self._asked.picks += columns
        self._at = end
        return True

    def _silent(self) -> bool:
        word = self.word(self._at)
        joins = word == "or" and self._asked.compare and not self.is_column(self._at + 1)
        if word not in SILENT and word not in _PUNCTUATION and word not in ROW_NOUNS and not joins:
            return False
        self._at += 1
        return True

    def _finish(self) -> None:
        """Give functions named without a column what they can only mean: the columns named before, or the rows."""
        asked = self._asked
        if self._pending == ["count"]:
            self._measure(["count"], [None])
        elif self._pending and asked.picks and asked.top is None:
            self._measure(self._pending, asked.picks)
            asked.picks = []
        elif self._pending:
            asked.lacking += self._pending
