"""Start-up time and memory: `raa up` as a user starts it, and each service alone on Kafka if there is one."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from benchmarks.measure import report, resident_mb

ROUNDS = 5
SETTLE_SECONDS = 3
SERVICES = ("executor", "safety", "memory", "router", "reflector", "planner")
RAA = shutil.which("raa", path=str(Path(sys.executable).parent)) or "raa"


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a process while the block runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAA_")}
    process = subprocess.Popen(
        command, env=kept | environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def stack_once() -> tuple[float, float]:
    """Start the whole stack; gives seconds to its line «ready» and resident MB when idle."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        with running([RAA, "up", "--data", folder], {}) as process:
            for line in process.stdout or ():
                if "ready" in line:
                    break
            seconds = time.monotonic() - begun
            time.sleep(SETTLE_SECONDS)
            return seconds, resident_mb(process.pid)


def service_alone(name: str, bootstrap: str, port: int) -> float:
    """Start one service on Kafka; gives resident MB when idle, with its store in SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "RAA_BUS": "kafka",
            "RAA_KAFKA_BOOTSTRAP": bootstrap,
            "RAA_DATA": folder,
            "RAA_HTTP_PORT": str(port),
            "RAA_DEPLOYMENT": f"footprint-{name}",
        }
        with running([sys.executable, "-m", f"raa_{name}"], environment) as process:
            wait_for(f"http://127.0.0.1:{port}/healthz")
            time.sleep(SETTLE_SECONDS)
            return resident_mb(process.pid)


def wait_for(url: str) -> None:
    """Wait until somebody answers."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except (URLError, OSError):
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nobody answers at {url}")


def main() -> None:
    """Run it."""
    runs = [stack_once() for _ in range(ROUNDS)]
    figures = {
        "up_ready_seconds_median": round(sorted(seconds for seconds, _ in runs)[ROUNDS // 2], 2),
        "up_idle_resident_mb": max(memory for _, memory in runs),
    }
    bootstrap = os.environ.get("RAA_TEST_KAFKA")
    if bootstrap:
        figures |= {
            f"{name}_alone_resident_mb": service_alone(name, bootstrap, 18_080 + number)
            for number, name in enumerate(SERVICES)
        }
    else:
        print("single services were not measured: set RAA_TEST_KAFKA=host:port (python -m tests.backends kafka)")
    report(
        "footprint",
        figures,
        durability="as shipped",
        targets={"up_ready_seconds_median": "<= 3", "up_idle_resident_mb": "<= 200", "*_alone_resident_mb": "<= 90"},
    )


if __name__ == "__main__":
    main()
