"""Finds fields nobody reads in what a person wrote by hand; events' readers ignore them, which helps nobody here."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel


def misspelt(model: type[BaseModel], written: Any, path: str = "") -> Iterator[str]:
    """Say each unknown field with its place and the nearest that exists; what is free-form stays unchecked."""
    if not isinstance(written, dict):
        return
    known = dict(model.model_fields)
    known |= {field.alias: field for field in model.model_fields.values() if field.alias}
    for name, value in written.items():
        if name not in known:
            yield f"{path}{name}: there is no such field; {_hint(name, list(known))}"
        elif part := _part(known[name].annotation):
            items = enumerate(value) if isinstance(value, list) else [(None, value)]
            for number, item in items:
                place = name if number is None else f"{name}[{number}]"
                yield from misspelt(part, item, f"{path}{place}.")


def _part(annotation: Any) -> type[BaseModel] | None:
    """Find the model that a field holds, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _part(argument))), None)


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
