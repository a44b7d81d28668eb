"""A whole deployment, each service in a process of its own, on real Kafka, the MongoDB protocol and Redis."""

import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from tests.backends.process import Server, free_port, serve

SERVICES = ("executor", "safety", "memory", "router", "reflector", "planner")


@dataclass(frozen=True)
class House:
    """What tests need of a running deployment: its environment, and its processes by name (`planner-1`, …)."""

    environment: Mapping[str, str]
    processes: Mapping[str, Server]
    folder: Path

    def logs(self) -> str:
        """Give what every process printed, for a failed assertion."""
        return "\n".join(f"--- {name}\n{(server.folder / 'server.log').read_text()[-4000:]}"
                         for name, server in self.processes.items())


@contextmanager
def house(folder: Path, *, kafka: str, mongo: str, redis_url: str, deployment: str,
          instances: Mapping[str, int] | None = None, extra: Mapping[str, str] | None = None) -> Iterator[House]:
    """Run all six services; `instances` says how many of each, two executors unless told otherwise."""
    counts = {"executor": 2} | dict(instances or {})
    names = [f"{service}-{number}" for service in SERVICES for number in range(1, counts.get(service, 1) + 1)]
    ports = {name: free_port() for name in names}
    shared = {
        "RAA_DEPLOYMENT": deployment,
        "RAA_BUS": "kafka",
        "RAA_KAFKA_BOOTSTRAP": kafka,
        "RAA_KAFKA_HEARTBEAT_SECONDS": "0.3",
        "RAA_STORE": "mongo",
        "RAA_MONGO_URL": mongo,
        "RAA_REDIS_URL": redis_url,
        "RAA_BLOBS_URL": f"file:{folder / 'blobs'}",
    }
    shared |= {f"RAA_{service.upper()}_URL": f"http://127.0.0.1:{ports[f'{service}-1']}" for service in ("executor", "safety", "memory", "router")}
    shared |= dict(extra or {})
    with ExitStack() as opened:
        servers = {name: opened.enter_context(_process(name, folder / name, ports[name], shared)) for name in names}
        yield House(shared, servers, folder)


@contextmanager
def _process(name: str, folder: Path, port: int, shared: Mapping[str, str]) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    own = {"RAA_DATA": str(folder), "RAA_INSTANCE": name, "RAA_HTTP_PORT": str(port)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAA_", "OPENAI_"))}
    command: Sequence[str] = ["env", "-i", *(f"{key}={value}" for key, value in (kept | dict(shared) | own).items()),
                              sys.executable, "-m", f"raa_{name.rpartition('-')[0]}"]
    # Its HTTP side answers before it is ready: readiness needs the others, which start next.
    with serve(command, address=f"http://127.0.0.1:{port}", folder=folder,
               ready=lambda: get(f"http://127.0.0.1:{port}/healthz") == 200) as server:
        yield server


def get(url: str) -> int:
    """Give the status of a GET, 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except URLError as problem:
        return getattr(problem, "code", 0)
    except OSError:
        return 0
