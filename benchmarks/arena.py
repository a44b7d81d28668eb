"""Where adapters run: servers started when first needed, an adapter at a time, the CPU of all of them around a run."""

import contextlib
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.adapters import Adapter
from benchmarks.peers.client import Load
from benchmarks.processes import Child, cpu_seconds_of, memory_mb_of
from tests.backends.catalogue import BACKENDS
from tests.backends.process import Server

READY_SECONDS = 60.0
WARM_UP_SHARE = 0.1


class Arena:
    """The servers of one benchmark; each is started when the first adapter needs it and ends with the block."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._servers: dict[str, Server] = {}

    def server(self, name: str) -> Server:
        """Give a running server."""
        if name not in self._servers:
            folder = self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix=f"raa-{name}-", ignore_cleanup_errors=True)
            )
            self._servers[name] = self._stack.enter_context(BACKENDS[name](Path(folder)))
        return self._servers[name]

    @contextlib.contextmanager
    def running(self, adapter: Adapter, **more: str) -> Iterator["Contender"]:
        """Run an adapter on topics, queues and files of its own while the block runs."""
        with tempfile.TemporaryDirectory(prefix="raa-bench-", ignore_cleanup_errors=True) as folder:
            contender = Contender(adapter, self, Path(folder), more)
            try:
                contender.start()
                yield contender
            finally:
                contender.stop()


@contextlib.contextmanager
def arena() -> Iterator[Arena]:
    """Open one."""
    with ExitStack() as stack:
        yield Arena(stack)


class Contender:
    """One adapter while it runs."""

    def __init__(self, adapter: Adapter, arena: Arena, folder: Path, more: dict[str, str]) -> None:
        self.adapter, self.folder = adapter, folder
        self._servers = {name: arena.server(name) for name in adapter.backends}
        self._environment = adapter.environment | {
            f"BENCH_{name.upper()}": server.address for name, server in self._servers.items()
        }
        self._environment |= {"BENCH_RUN": f"b{uuid.uuid4().hex[:8]}", **more}
        self.workers: list[Child] = []

    def start(self) -> None:
        """Start the client, which creates what the workers need, and then these."""
        self.client = self._child(self.adapter.client, "client", talks=True)
        self.client.hear(READY_SECONDS)
        self.workers = [self._child(command, f"worker{number}") for number, command in enumerate(self.adapter.workers)]

    def restart(self, number: int) -> None:
        """Start a worker again, on the folder it had."""
        self.workers[number] = self._child(self.adapter.workers[number], f"worker{number}")

    def _child(self, command: tuple[str, ...], name: str, *, talks: bool = False) -> Child:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        environment = self._environment | {"BENCH_FOLDER": str(folder)}
        return Child(command, environment, self.folder / f"{name}.log", talks=talks)

    @property
    def pids(self) -> list[int]:
        """Name every process whose CPU is the adapter's: client, workers, servers (their children count too)."""
        own = [self.client.pid, *(worker.pid for worker in self.workers)]
        return own + [server.process.pid for server in self._servers.values()]

    def warm_up(self, load: Load) -> None:
        """Run a tenth of a load, without looking at the figures; shows that everybody is there."""
        count = max(20, int(load.size * WARM_UP_SHARE))
        warm = load._replace(name=f"warm-{load.name}", size=count, rate=None, hot_share=0.0)
        self.begin(warm)
        self.end(warm)

    def begin(self, load: Load) -> None:
        """Let the client begin with a load, and return at once."""
        self.client.say(load._asdict())

    def end(self, load: Load) -> dict[str, Any]:
        """Wait for the client's report."""
        report: dict[str, Any] = self.client.hear(load.seconds + READY_SECONDS)
        return report

    def run(self, load: Load) -> dict[str, Any]:
        """Run a load; adds CPU per task of all processes, by part, and tasks per second to the client's report."""
        parts = {
            "client": [self.client.pid],
            "workers": [worker.pid for worker in self.workers],
            "servers": [server.process.pid for server in self._servers.values()],
        }
        before = {part: cpu_seconds_of(pids) for part, pids in parts.items()}
        self.begin(load)
        report = self.end(load)
        if load.rate is None:  # else nothing but the waiting is looked at
            time.sleep(self.adapter.settles_seconds)
        used = {part: (cpu_seconds_of(pids) - before[part]) / load.size * 1000 for part, pids in parts.items()}
        for worker in self.workers:
            worker.check()
        report["cpu_ms"] = sum(used.values())
        report["cpu_parts_ms"] = {part: round(value, 4) for part, value in used.items()}
        report["tasks_per_second"] = report["ended"] / report["seconds"] if report["seconds"] else 0.0
        report["memory_mb"] = memory_mb_of([self.client.pid, *(worker.pid for worker in self.workers)])
        return report

    def stop(self) -> None:
        """End its processes; the servers go on."""
        for child in [*self.workers, *([self.client] if hasattr(self, "client") else [])]:
            child.stop()
