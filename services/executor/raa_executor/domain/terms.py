"""The circumstances of a decision about a run."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose run it is, when it is, and how many of its steps may be under way at once."""

    task_id: str
    now: datetime
    parallel: int
