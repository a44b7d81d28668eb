"""How letters are sent back, as it is asked for on the command line."""

from dataclasses import dataclass
from typing import Final

from raa_cli.execute import UsageProblem

DEFAULT_RATE: Final = "50/s"
MOST_PER_SECOND: Final = 100_000
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class How:
    """How a redrive is done; `rate` is in letters per second, `wait` in seconds."""

    rate: float = 50.0
    dry_run: bool = False
    as_new_task: bool = False
    again: bool = False
    why: str = ""
    wait: float = 10.0


def rate_of(text: str) -> float:
    """Read `10`, `10/s` or `600/m` as letters per second; raises UsageProblem."""
    number, _, unit = text.partition("/")
    try:
        rate = float(number) / _SECONDS[unit]
    except (ValueError, KeyError):
        rate = 0.0
    if not 0 < rate <= MOST_PER_SECOND:
        raise UsageProblem(f"--rate {text!r} is no rate; write letters per second as in 10/s, or 600/m")
    return rate
