"""B12: memory and start: `raa up` as a user starts it, and each service alone on Kafka with its own store."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from benchmarks.arena import arena
from benchmarks.figures import spread
from benchmarks.measure import resident_mb
from benchmarks.options import Options, say
from benchmarks.results import Target, versions, write
from tests.backends.process import BackendMissing, free_port

SETTLE_SECONDS = 3
SERVICES = ("executor", "safety", "memory", "router", "reflector", "planner")
RAA = shutil.which("raa", path=str(Path(sys.executable).parent)) or "raa"
Start = tuple[float, float]


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
        process.wait(60)


def stack_once() -> Start:
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


def service_once(name: str, bootstrap: str, turn: int) -> Start:
    """Start one service on Kafka, its store in SQLite; gives seconds until it answers and resident MB when idle."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "RAA_BUS": "kafka",
            "RAA_KAFKA_BOOTSTRAP": bootstrap,
            "RAA_DATA": folder,
            "RAA_HTTP_PORT": str(port),
            "RAA_DEPLOYMENT": "b12",
            "RAA_INSTANCE": f"{name}-{turn}",
        }
        begun = time.monotonic()
        with running([sys.executable, "-m", f"raa_{name}"], environment) as process:
            wait_for(f"http://127.0.0.1:{port}/healthz", process)
            seconds = time.monotonic() - begun
            time.sleep(SETTLE_SECONDS)
            return seconds, resident_mb(process.pid)


def wait_for(url: str, process: "subprocess.Popen[str]") -> None:
    """Wait until somebody answers."""
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except (URLError, OSError):
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nobody answers at {url}")


def row(name: str, title: str, starts: Sequence[Start]) -> dict[str, Any]:
    """Sum up the rounds."""
    seconds, memory = zip(*starts, strict=True)
    return {"name": name, "title": title, "seconds": spread(seconds, 2), "resident_mb": spread(memory, 1)}


def services(rounds: int) -> list[dict[str, Any]]:
    """Start each service alone, where there is a broker."""
    try:
        with arena() as field:
            bootstrap = field.server("kafka").address
            service_once(SERVICES[0], bootstrap, 0)  # creates the topics, so that nobody else's start pays for it
            starts = {name: [service_once(name, bootstrap, turn) for turn in range(rounds)] for name in SERVICES}
    except BackendMissing as problem:
        say(f"B12: single services were not measured: {problem}")
        return []
    return [row(name, f"{name} alone, Kafka and SQLite", found) for name, found in starts.items()]


def targets(found: Sequence[Mapping[str, Any]]) -> list[Target]:
    """Hold the figures against the aims of this release."""
    stack, *alone = found
    heaviest = max((each["resident_mb"]["median"] for each in alone), default=None)
    slowest = max((each["seconds"]["median"] for each in alone), default=None)
    return [
        Target("raa up, seconds until ready", 3, stack["seconds"]["median"], "s"),
        Target("raa up, idle", 200, stack["resident_mb"]["median"], "MB"),
        Target("the heaviest service alone, idle", 90, heaviest, "MB"),
        Target("the slowest service alone, seconds until it answers", 2, slowest, "s"),
    ]


def main(options: Options) -> None:
    """Run it."""
    load = os.getloadavg()
    rounds = min(options.rounds, 3)
    found = [row("up", "raa up: all six services in one process", [stack_once() for _ in range(rounds)])]
    found += services(1 if options.quick else 2)
    for each in found:
        say(f"B12 {each['name']}: {each['seconds']['median']} s, {each['resident_mb']['median']} MB")
    write("b12", found, targets(found), load=load, rounds=rounds, quick=options.quick, versions=versions((), ["kafka"]))
