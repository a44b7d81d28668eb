"""Hides secrets: what looks like one by its name or shape, and the values a process knows to be some."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

MASK: Final = "***"
# anything shorter is part of too many words and numbers that are none
SHORTEST: Final = 6
_SECRET: Final = re.compile(
    r"passw(or)?d|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|authorization|cookie|credential"
    r"|(^|[_-])(token|pwd|auth)s?$",
    re.IGNORECASE,
)
_IN_TEXT: Final = re.compile(
    r"(?<![a-z0-9])(bearer\s+|sk-|ghp_|xox[abp]-)[a-z0-9._~+/=-]{8,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)", re.IGNORECASE
)
_NO_SECRETS: Final = frozenset({"PWD", "OLDPWD"})  # the shell's folders


def is_secret(name: str) -> bool:
    """Say whether a field or header of this name holds a secret."""
    return _SECRET.search(name) is not None


def masked(value: Any) -> Any:
    """Replace the secrets in a JSON value."""
    if isinstance(value, dict):
        return {name: MASK if is_secret(name) and _may_be(item) else masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return masked_text(value) if isinstance(value, str) else value


def _may_be(item: Any) -> bool:
    return item is not None and not isinstance(item, bool | int | float)  # tokens are counted, too


def masked_text(text: str) -> str:
    """Replace what looks like a key, a bearer token or the password of a URL."""
    return _IN_TEXT.sub(MASK, text)


class Secrets:
    """Values that nobody may read in an event; those of fewer than 6 characters are not looked for.

    A value is also found as a URL or a JSON text writes it.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values if len(value) >= SHORTEST for form in _forms(value)}
        longest_first = sorted(forms, key=len, reverse=True)  # or the rest of a longer one would stay
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Collect the variables that are named like secrets, and the passwords in URLs and JSON of the others."""
        return cls(secret for name, value in environment.items() for secret in _secrets_of(name, value))

    def hide(self, text: str) -> str:
        """Replace these values in a text, and what looks like a secret."""
        return masked_text(self._hide(text))

    def hide_known(self, value: Any) -> Any:
        """Replace these values, and nothing else, in a JSON value: programs read it."""
        if isinstance(value, dict):
            return {self._hide(name): self.hide_known(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.hide_known(item) for item in value]
        return self._hide(value) if isinstance(value, str) else value

    def _hide(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text


def _forms(value: str) -> set[str]:
    return {value, quote(value, safe="", errors="replace"), json.dumps(value)[1:-1]}


def _secrets_of(name: str, value: str) -> Iterator[str]:
    if (is_secret(name) or name.upper().endswith("_KEY")) and name not in _NO_SECRETS:
        yield value
    if value.startswith(("{", "[")):
        yield from _named_in(_read(value))
    if "://" in value and (password := _password(value)):
        yield from {password, unquote(password)}


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _named_in(value: Any) -> Iterator[str]:
    for name, item in value.items() if isinstance(value, dict) else ():
        if is_secret(name) and isinstance(item, str):
            yield item
        yield from _named_in(item)
    for item in value if isinstance(value, list) else ():
        yield from _named_in(item)


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None
