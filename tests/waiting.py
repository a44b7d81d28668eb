"""Wait for something that another process does, without guessing how long it takes."""

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], *, seconds: float = 20, every: float = 0.02) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it still does not hold after `seconds`.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"still not so after {seconds} s"
        time.sleep(every)
