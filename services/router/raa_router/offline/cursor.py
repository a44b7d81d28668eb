"""Looks at the tokens of a goal: what stands at a place, and where a phrase, an operator or a value ends."""

from collections.abc import Sequence
from typing import Any

from raa_router.offline.lexer import Token
from raa_router.offline.words import NUMBER_WORDS, OPERATORS, VOCABULARY

_IS = frozenset({"is", "are", "was", "were", "of", "has", "value", "values", "the"})
_MISSING = frozenset({"missing", "null", "empty", "blank"})
_VAGUE = frozenset(
    {"positive", "negative", "high", "low", "large", "small", "big", "good", "bad", "odd", "even", "zero", "nonzero"}
    | {"normal", "typical", "extreme", "unknown", "known", "available", "unusual", "never", "always"}
)


class Cursor:
    """Answers questions about places in the goal; a place outside it holds nothing."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens

    def token(self, at: int) -> Token | None:
        """Return the token at a place, or None outside the goal."""
        return self.tokens[at] if 0 <= at < len(self.tokens) else None

    def word(self, at: int) -> str:
        """Return the word or sign at a place in lower case; empty for anything else."""
        token = self.token(at)
        return token.word if token is not None and token.kind in {"word", "symbol"} else ""

    def is_column(self, at: int) -> bool:
        """Say whether a column stands at a place."""
        token = self.token(at)
        return token is not None and token.kind == "column"

    def phrase(self, at: int, phrases: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
        """Return the first of the phrases that begins at a place."""
        for phrase in phrases:
            if all(self.word(at + number) == word for number, word in enumerate(phrase)):
                return phrase
        return None

    def skip(self, at: int, words: frozenset[str]) -> int:
        """Return the first place from `at` on that holds none of `words`."""
        while self.word(at) in words:
            at += 1
        return at

    def number(self, at: int) -> int | None:
        """Read a whole number, in digits or as a word up to twelve."""
        token = self.token(at)
        if token is None:
            return None
        if token.kind == "number" and token.text.isdecimal():
            return int(token.text[:9])
        return NUMBER_WORDS.get(token.word)

    def operator(self, at: int) -> tuple[str | None, int]:
        """Read the operator behind a column, with `is`, `of` and the like around it; None when there is none."""
        linked = self.skip(at, _IS)
        for place in (at, linked):
            if self.word(place) == "between":
                return ("between", place + 1) if self.value(place + 1)[1] > place + 1 else (None, at)
            phrase = self.phrase(place, [words for words, _ in OPERATORS])
            if phrase is not None:
                return dict(OPERATORS)[phrase], self.skip(place + len(phrase), frozenset({"to", "the"}))
        equals = any(self.word(place) in {"is", "are", "was", "were"} for place in range(at, linked))
        valued = self.value(linked)[1] > linked
        return ("==" if equals and valued else None), linked

    def value(self, at: int) -> tuple[Any, int]:
        """Read a number, a quoted text, a date or one plain word; the same place comes back when there is none.

        A word for missing reads as None.
        """
        token = self.token(at)
        if token is None or token.kind in {"symbol", "file", "path"}:
            return None, at
        if token.kind == "number":
            return token.number, at + (token.number is not None)
        if token.kind == "word" and token.word in _MISSING:
            return None, at + 1
        if token.kind == "word" and token.word in NUMBER_WORDS:
            return NUMBER_WORDS[token.word], at + 1
        if token.kind == "column" or (token.kind == "word" and (token.text in VOCABULARY or token.word in _VAGUE)):
            return None, at  # a condition can say neither `above average`, nor `positive`, nor compare two columns
        return token.text, at + 1
