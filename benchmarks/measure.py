"""What every benchmark shares: CPU of this process and its children, resident memory, percentiles, one JSON form."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds() -> float:
    """Give user and system time of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def resident_mb(pid: int | None = None) -> float:
    """Give the resident memory of a process in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1])
    return round(pages * _PAGE / 1e6, 1)


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value below which a share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def clocked(figures: dict[str, Any], name: str, count: int) -> Iterator[None]:
    """Put CPU per item and items per second of the block into `figures`."""
    cpu, wall = cpu_seconds(), time.monotonic()
    yield
    figures[f"{name}_cpu_ms"] = round((cpu_seconds() - cpu) / count * 1000, 3)
    figures[f"{name}_per_second"] = round(count / (time.monotonic() - wall), 1)


def report(name: str, figures: dict[str, Any], *, durability: str, targets: dict[str, str]) -> None:
    """Print the figures and keep them as JSON; `targets` says what was aimed at, met or not."""
    result = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "load_average": [round(load, 2) for load in os.getloadavg()],
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "versions": {package: version(package) for package in ("raa-runtime", "pydantic", "fastapi", "duckdb")},
        "durability": durability,
        "figures": figures,
        "targets": targets,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))


def run_alone(module: str) -> None:
    """Run one benchmark in a process of its own, so that none leaves memory or threads to the next."""
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}"], check=True)
