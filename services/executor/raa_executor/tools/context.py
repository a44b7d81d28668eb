"""What a tool may know about the call it serves, beside its arguments."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class CallContext:
    """The call as the executor sees it; injected where a tool's parameter has this type.

    `idempotency_key` is equal for every repetition of the same action: a `keyed` tool hands it to the far side.
    `deadline` is aware UTC. `epoch` rises with every
    owner and every new start of the step.
    """

    idempotency_key: str
    tenant: str
    task: str
    step: str
    epoch: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Happened:
    """The answer of a probe that found the action done, with the output the lost call would have given."""

    output: Any = None
