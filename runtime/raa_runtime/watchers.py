"""Whoever waits in this process for an aggregate to get somewhere."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from raa_runtime.state.codec import Kind
from raa_runtime.unit import Unit

T = TypeVar("T")
Look = Callable[[Any], None]


class Watchers:
    """Show each stored state to those who watch its aggregate."""

    def __init__(self) -> None:
        self._looks: dict[tuple[str, str], list[Look]] = {}

    @contextmanager
    def watching(
        self, kind: str, aggregate: str, until: Callable[[Any], T | None]
    ) -> Iterator[tuple[Look, "asyncio.Future[T]"]]:
        """Look at each state until `until` gives something, which the future then holds; `look` looks at one more."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def look(state: Any) -> None:
            value = until(state)
            if value is not None and not done.done():
                done.set_result(value)

        looks = self._looks.setdefault((kind, aggregate), [])
        looks.append(look)
        try:
            yield look, done
        finally:
            looks.remove(look)
            if not looks:
                self._looks.pop((kind, aggregate), None)

    def tell(self, kind: Kind[Any], unit: Unit[Any]) -> None:
        """Show what was stored."""
        for look in list(self._looks.get((kind.name, unit.id), ())):
            look(unit.state)
