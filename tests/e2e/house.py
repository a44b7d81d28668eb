"""Whole deployments in processes of their own: `raa up` on one folder, or each service alone on real servers."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.error import URLError

from raa_runtime.settings import ServiceSettings
from tests.backends.process import Server, free_port, launch, wait_for

SERVICES = ("executor", "safety", "memory", "router", "reflector", "planner")
_HOST = "http://127.0.0.1"
_STOP_SECONDS = 20.0


class House:
    """A running deployment: how a client reaches it, and its processes by name (`planner-1`, or `raa`)."""

    def __init__(self, folder: Path, settings: ServiceSettings) -> None:
        self.folder, self.settings = folder, settings
        self.processes: dict[str, Server] = {}
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}
        self._told_before: dict[str, int] = {}

    def define(self, name: str, command: list[str], environment: Mapping[str, str], port: int | None = None) -> None:
        """Say how a process is started; `port` is where it answers."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAA_", "OPENAI_"))}
        own = {"RAA_HTTP_PORT": str(port)} if port else {}
        self._commands[name] = (command, kept | dict(environment) | own)

    def launch(self, *names: str) -> None:
        """Start processes (all, unless named), without waiting for them."""
        for name in names or self._commands:
            command, environment = self._commands[name]
            clean = ["env", "-i", *(f"{key}={value}" for key, value in environment.items()), *command]
            port = environment.get("RAA_HTTP_PORT")
            self._told_before[name] = len(self.log(name))
            self.processes[name] = launch(clean, address=f"{_HOST}:{port}" if port else "", folder=self.folder / name)

    def wait(self, *names: str) -> None:
        """Wait until processes (all, unless named) are ready; raises BackendFailed with the log of one that is not."""
        for name in names or self.processes:
            server = self.processes[name]
            wait_for(partial(self._ready, name), server)

    def start(self, *names: str) -> None:
        """Start processes and wait for them."""
        self.launch(*names)
        self.wait(*names)

    def _ready(self, name: str) -> bool:
        if address := self.processes[name].address:
            return get(f"{address}/readyz")[0] == 200
        return "ready in" in self.log(name)[self._told_before[name] :]

    def log(self, name: str) -> str:
        """Give what a process printed, over all its starts."""
        file = self.folder / name / "server.log"
        return file.read_text() if file.exists() else ""

    def kill(self, *names: str) -> None:
        """End processes as a power cut would."""
        for name in names:
            self.processes[name].process.kill()
        for name in names:
            self.processes[name].process.wait()

    def stop(self) -> None:
        """Ask all to end, together, and wait; raises AssertionError if one had to be killed or failed."""
        running = {name: server for name, server in self.processes.items() if server.process.poll() is None}
        for server in running.values():
            server.process.terminate()
        for server in running.values():
            _wait_or_kill(server)
        failed = {name: server.process.returncode for name, server in running.items() if server.process.returncode}
        assert not failed, f"ended badly: {failed}\n{self.logs()}"

    def command_of(self, name: str) -> tuple[list[str], dict[str, str]]:
        """Give how a process was started: command and environment."""
        command, environment = self._commands[name]
        return list(command), dict(environment)

    def pid_of(self, name: str) -> int:
        """Give a process's id; what starts it replaces itself, so it is the service's own."""
        return self.processes[name].process.pid

    def alive(self) -> bool:
        """Say whether no process has ended by itself."""
        return all(server.process.poll() is None for server in self.processes.values())

    def logs(self) -> str:
        """Give the end of what every process printed, for a failed assertion."""
        return "\n".join(f"--- {name}\n{self.log(name)[-4000:]}" for name in self.processes)


def _wait_or_kill(server: Server) -> None:
    # A second signal would tell it not to wait for its work.
    try:
        server.process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()


@contextmanager
def running(house: House) -> Iterator[House]:
    """Start a house, and stop it at the end."""
    try:
        house.start()
        yield house
    finally:
        house.stop()


def all_in_one(folder: Path, logs: Path | None = None, **environment: str) -> House:
    """Describe `raa up` on the data folder `folder`; `environment` holds variables without their RAA_."""
    house = House(logs or folder / "logs", ServiceSettings.from_env({}, data=folder))
    variables = {f"RAA_{name.upper()}": value for name, value in environment.items()}
    up = [sys.executable, "-m", "raa_cli", "up", "--data", str(folder), "--log-level", "warning"]
    house.define("raa", up, variables)
    return house


def apart(
    folder: Path,
    *,
    kafka: str,
    mongo: str,
    redis_url: str,
    deployment: str,
    instances: Mapping[str, int] | None = None,
    extra: Mapping[str, str] | None = None,
) -> House:
    """Describe all six services as processes of their own; `instances` says how many of each, two executors at least.

    Each process has its own data folder; they share nothing but Kafka, MongoDB, Redis and one blob store.
    """
    counts = {"executor": 2} | dict(instances or {})
    names = [f"{service}-{number}" for service in SERVICES for number in range(1, counts.get(service, 1) + 1)]
    ports = {name: free_port() for name in names}
    shared = {
        "RAA_DEPLOYMENT": deployment,
        "RAA_BUS": "kafka",
        "RAA_KAFKA_BOOTSTRAP": kafka,
        "RAA_KAFKA_HEARTBEAT_SECONDS": "0.3",
        "RAA_KAFKA_SESSION_SECONDS": "3",
        "RAA_LEASE_SECONDS": "3",
        "RAA_STORE": "mongo",
        "RAA_MONGO_URL": mongo,
        "RAA_REDIS_URL": redis_url,
        "RAA_BLOBS_URL": f"file:{folder / 'blobs'}",
        "RAA_LOG_LEVEL": "warning",
    }
    shared |= {
        f"RAA_{service.upper()}_URL": f"{_HOST}:{ports[f'{service}-1']}"
        for service in ("executor", "safety", "memory", "router")
    }
    shared |= dict(extra or {})
    house = House(folder, ServiceSettings.from_env(shared))
    for name in names:
        own = {"RAA_DATA": str(folder / name), "RAA_INSTANCE": name}
        house.define(name, [sys.executable, "-m", f"raa_{name.rpartition('-')[0]}"], shared | own, ports[name])
    return house


def get(url: str) -> tuple[int, str]:
    """Give status and body of a GET; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except URLError as problem:
        body = problem.read().decode() if hasattr(problem, "read") else ""
        return getattr(problem, "code", 0), body
    except OSError:
        return 0, ""


def missing(url: str) -> dict[str, str]:
    """Name what a service lacks for readiness."""
    lacks: dict[str, str] = json.loads(get(f"{url}/readyz")[1] or "{}").get("missing", {})
    return lacks
