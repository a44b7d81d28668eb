"""What a process holds, as the kernel sees it: memory, open files, and how they grow."""

from collections.abc import Sequence
from pathlib import Path

_PAGE_BYTES = 4096
_HOUR_SECONDS = 3600.0


def rss_mb(pid: int) -> float:
    """Give the resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


def open_files(pid: int) -> int:
    """Count the open files and connections of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def slope_per_hour(at: Sequence[float], values: Sequence[float]) -> float:
    """Fit a line through values over seconds; gives its rise per hour."""
    middle, mean = sum(at) / len(at), sum(values) / len(values)
    spread = sum((second - middle) ** 2 for second in at)
    if not spread:
        return 0.0
    rise = sum((second - middle) * (value - mean) for second, value in zip(at, values, strict=True))
    return rise / spread * _HOUR_SECONDS
