"""Bounds of values that travel inside events and state; larger ones travel by reference."""

from typing import Any, Final

from raa_schemas.canonical import canonical_bytes
from raa_schemas.errors import ErrorInfo

INLINE_BYTES: Final = 65_536
_STATE_BYTES: Final = 4_096
_STATE_BYTES_OF_LONG_PLANS: Final = 1_024
_LONG_PLAN: Final = 50
_MESSAGE_CHARACTERS: Final = 2_000


def size(value: Any) -> int:
    """Count the bytes of a JSON value in its canonical form."""
    return len(canonical_bytes(value))


def state_bound(max_steps: int) -> int:
    """Bound one output inside the state of a run, in bytes, so that all outputs of a plan stay below 200 KB."""
    return _STATE_BYTES if max_steps <= _LONG_PLAN else _STATE_BYTES_OF_LONG_PLANS


def bounded(info: ErrorInfo, max_steps: int) -> ErrorInfo:
    """Cut an error down to what fits into the state of a run."""
    bound = state_bound(max_steps)
    message = info.message if len(info.message) <= _MESSAGE_CHARACTERS else info.message[:_MESSAGE_CHARACTERS] + "…"
    fits = size(info.details) <= bound
    details = info.details if fits else {"left_out": f"details of more than {bound} bytes"}
    return info.model_copy(update={"message": message, "details": details})
