"""Says a lesson in up to 60 words, for models and people."""

import json
from collections.abc import Iterator
from typing import Any

MAX_WORDS = 60
_SIGNS = {",": "comma", ".": "point", "'": "apostrophe", " ": "space", "_": "underscore"}
_DELIMITERS = {"\t": "tab", ";": "semicolon", ",": "comma", "|": "vertical bar"}


def tell(tool: str, change: dict[str, Any]) -> str:
    """Say what a change to the reading of a source means."""
    read = change.get("read")
    known = _of_read_options(read) if isinstance(read, dict) else iter(())
    others = {key: item for key, item in change.items() if not (key == "read" and isinstance(item, dict))}
    sentences = [*known, *(_plainly(tool, key, item) for key, item in others.items())]
    return _shortened(" ".join(sentences))


def _of_read_options(read: dict[str, Any]) -> Iterator[str]:
    for name, value in read.items():
        if name == "decimal" and value in _SIGNS:
            yield f"Numbers in this table use a decimal {_SIGNS[value]}."
        elif name == "thousands" and value in _SIGNS:
            yield f"Numbers in this table group their digits with a {_SIGNS[value]}."
        elif name == "delimiter" and isinstance(value, str):
            yield f"Fields of this table are separated by a {_DELIMITERS.get(value, repr(value))}."
        elif name == "missing" and isinstance(value, list):
            listed = ", ".join(map(_written, value[:10]))
            yield f"In this table {listed} {'stands' if len(value) == 1 else 'stand'} for a missing value."
        else:
            yield _plainly("the reader", f"read.{name}", value)


def _plainly(tool: str, name: str, value: Any) -> str:
    return f"Call {tool} with {name} = {_written(value)} on this source."


def _written(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 80 else text[:79] + "…"


def _shortened(text: str) -> str:
    words = text.split(" ")
    return text[:600] if len(words) <= MAX_WORDS else " ".join([*words[: MAX_WORDS - 1], "…"])[:600]
