"""Who is compared: how each is started, what it stands on, how durable it is, and how many tasks a round gives it."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ROOT

OWN = Path(sys.executable).parent
THEIRS = ROOT / ".venv-peers" / "bin"
Command = tuple[str, ...]


@dataclass(frozen=True)
class Adapter:
    """One system under test: a client process, worker processes, and the servers whose CPU is theirs.

    `settles_seconds` is how long it still works after the last task came out; that CPU counts.
    """

    name: str
    title: str
    durability: str
    client: Command
    workers: tuple[Command, ...] = ()
    backends: tuple[str, ...] = ()
    tasks: int = 1_000
    settles_seconds: float = 0.5
    environment: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Say whether it is ours."""
        return self.name.startswith("raa")


def _own(variant: str, title: str, durability: str, tasks: int, *backends: str) -> Adapter:
    python = str(OWN / "python")
    worker: Command = (python, "-m", "benchmarks.own", "worker")
    return Adapter(
        f"raa-{variant}",
        f"raa, {title}",
        durability,
        (python, "-m", "benchmarks.own", "client"),
        (worker,) if backends else (),
        backends,
        tasks,
        # an ended aggregate shrinks to its tombstone 5 s later, and that is work, too
        0.5 if variant.endswith("stateless") else 6.0,
        {"BENCH_VARIANT": variant},
        ("raa-runtime",),
    )


def _peer(
    module: str, title: str, durability: str, tasks: int, *backends: str, worker: Command = (), variant: str = ""
) -> Adapter:
    return Adapter(
        f"{module}-{variant}" if variant else module,
        title,
        durability,
        (str(THEIRS / "python"), "-m", f"benchmarks.peers.{module}", "client"),
        ((str(THEIRS / worker[0]), *worker[1:]),) if worker else (),
        backends,
        tasks,
        environment={"BENCH_VARIANT": variant},
        packages=(module.partition("_")[0],),
    )


_REDIS = "Redis, file synced each second"
ADAPTERS = (
    _own("embedded", "embedded bus, SQLite", "state and log in SQLite, synchronous=FULL", 8_000),
    _own("kafka-stateless", "Kafka, no state", "acks=all, committed after the work; no state", 8_000, "kafka"),
    _own("kafka-sqlite", "Kafka, SQLite", "acks=all; state in SQLite, synchronous=FULL", 8_000, "kafka"),
    _own("kafka-mongo", "Kafka, MongoDB protocol", "acks=all; state w=majority, j=true", 800, "kafka", "mongo"),
    _peer(
        "aiokafka_batches",
        "bare aiokafka, batches",
        "acks=all, committed after the work; no state",
        8_000,
        "kafka",
        worker=("python", "-m", "benchmarks.peers.aiokafka_batches", "worker"),
    ),
    _peer(
        "faststream",
        "FastStream, defaults",
        "acks=1, committed before the work: can lose; no state",
        2_000,
        "kafka",
        worker=("python", "-m", "benchmarks.peers.faststream", "worker"),
    ),
    _peer(
        "taskiq",
        "taskiq, Redis list",
        f"{_REDIS}; off the list before the work: can lose; no state",
        1_000,
        "redis",
        worker=("taskiq", "worker", "--workers", "1", "--log-level", "ERROR", "benchmarks.peers.taskiq:broker"),
    ),
    _peer(
        "dramatiq",
        "dramatiq, Redis",
        f"{_REDIS}; acknowledged after the work; no state",
        1_000,
        "redis",
        worker=("dramatiq", "benchmarks.peers.dramatiq", "--processes", "2", "--threads", "8"),
    ),
    _peer(
        "celery",
        "Celery, Redis, prefork 2",
        f"{_REDIS}; acknowledged after the work; no state",
        400,
        "redis",
        worker=("celery", "-A", "benchmarks.peers.celery", "worker", "-c", "2", "-l", "ERROR", "--without-gossip",
                "--without-mingle"),
    ),
    _peer("langgraph", "LangGraph, SQLite", "checkpoint per node, WAL, synchronous=FULL", 300, variant="sqlite"),
    _peer(
        "langgraph", "LangGraph, PostgreSQL", "checkpoint per node, committed", 300, "postgres", variant="postgres"
    ),
    _peer("dbos", "DBOS, PostgreSQL", "outcome of each step committed", 200, "postgres"),
)  # fmt: skip
BY_NAME = {adapter.name: adapter for adapter in ADAPTERS}


def chosen(names: str) -> list[Adapter]:
    """Pick adapters by parts of their names, separated by commas; ours always take part.

    Raises ValueError naming those there are.
    """
    parts = [part for part in names.split(",") if part]
    for part in parts:
        if not any(part in name for name in BY_NAME):
            raise ValueError(f"no adapter is called {part!r}; there are {', '.join(BY_NAME)}")
    if not parts:
        return list(ADAPTERS)
    only_own = all(part.startswith("raa") for part in parts)
    return [
        adapter for adapter in ADAPTERS if (adapter.own and not only_own) or any(part in adapter.name for part in parts)
    ]
