"""Hides what looks like a secret before a record is shown to a person."""

import json
import re
from typing import Any, Final

MASK: Final = "***"
_SECRET: Final = re.compile(
    r"passw(or)?d|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|authorization|cookie|credential"
    r"|(^|[_-])(token|pwd|auth)s?$",
    re.IGNORECASE,
)
_IN_TEXT: Final = re.compile(
    r"(bearer\s+|sk-|ghp_|xox[abp]-)[A-Za-z0-9._~+/=-]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)", re.IGNORECASE
)


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


def readable(raw: bytes | None, *, most_characters: int) -> str:
    """Show a record's value: JSON indented, other text as it is, anything else as the head of its bytes."""
    if raw is None:
        return "(no value)"
    try:
        text = raw.decode()
        text = json.dumps(masked(json.loads(text)), indent=2, ensure_ascii=False)
    except UnicodeDecodeError:
        return f"{len(raw)} bytes, no text: {raw[:64].hex(' ')}{' …' if len(raw) > 64 else ''}"
    except (ValueError, RecursionError):
        text = masked_text(text)
    if len(text) > most_characters:
        return f"{text[:most_characters]}\n… {len(text) - most_characters} more characters; --json shows all"
    return text or "(empty)"
