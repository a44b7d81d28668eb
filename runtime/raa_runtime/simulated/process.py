"""One run of one simulated process: what its callbacks belong to, and whether they still run."""

import asyncio
from contextvars import Context, ContextVar, copy_context
from typing import Any, Literal

PROCESS: ContextVar["Process | None"] = ContextVar("simulated_process", default=None)
OUTSIDE = copy_context()
"""The context of the world itself: brokers, stores and the network, which no crash of a process ends."""


class Process:
    """An incarnation. Everything it begins carries it in its context; that is how the loop knows whose a callback is.

    A dead one runs nothing any more, not even its own clean-up. A frozen one runs later what has come up meanwhile.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.incarnation = f"{name}:{number}"
        self.state: Literal["alive", "frozen", "dead"] = "alive"
        self.steps = 0
        self.dies_at: int | None = None
        self.requests_arrive = True
        self.waiting: list[asyncio.Handle] = []
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)

    @property
    def gone(self) -> bool:
        """Say whether nothing of it may reach the outside any more, what is under way included."""
        return self.state == "dead" and not self.requests_arrive

    def __repr__(self) -> str:
        return f"<{self.incarnation} {self.state}>"


def process_of(handle: asyncio.Handle) -> Process | None:
    """Say whose callback this is; None: the world's own."""
    context: Any = handle._context  # type: ignore[attr-defined]  # there is no public way to ask
    found: Process | None = context.get(PROCESS)
    return found
