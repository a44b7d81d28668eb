"""B2: latency over four hops at intended send times: alone on the machine, and at half of what we can carry."""

import os
from collections.abc import Sequence
from typing import Any

from benchmarks.adapters import BY_NAME, Adapter, chosen
from benchmarks.arena import Arena, arena
from benchmarks.b1 import SQLITE, present, warm_broker
from benchmarks.figures import is_valid, percentiles
from benchmarks.options import Options, say
from benchmarks.peers.client import Load
from benchmarks.processes import RunFailed
from benchmarks.results import Target, versions, write
from tests.backends.process import BackendMissing

IDLE_RATE, IDLE_SECONDS = 20.0, 10.0
HALF_SECONDS = 12.0
# bare aiokafka is tuned for batches and no product; without a server of its own a library has no hops to make
OTHERS = ("raa-embedded", "faststream", "taskiq", "celery", "langgraph-postgres", "dbos")
Waits = list[float]


def idle(field: Arena, adapter: Adapter, options: Options) -> Waits:
    """Give the milliseconds of tasks that come 20 a second."""
    count = options.share(int(IDLE_RATE * IDLE_SECONDS))
    return run(field, adapter, Load("idle", count, rate=IDLE_RATE, seconds=60), warm=200)[0]


def half(field: Arena, adapter: Adapter, options: Options) -> tuple[Waits, float]:
    """Give the milliseconds at half of the rate that the same process has just sustained, and that rate."""
    return run(field, adapter, None, warm=options.share(adapter.tasks))


def run(field: Arena, adapter: Adapter, load: Load | None, warm: int) -> tuple[Waits, float]:
    """Warm up with everything at once, then run the load; without one it is half of what the warm-up sustained.

    Raises RunFailed when something was lost or reordered.
    """
    with field.running(adapter) as contender:
        contender.warm_up(Load("first", warm))
        most = contender.run(Load("most", warm))["tasks_per_second"]
        rate = most / 2
        report = contender.run(load or Load("half", int(rate * HALF_SECONDS), rate=rate, seconds=90))
    if not is_valid(report):
        raise RunFailed(f"{adapter.name} lost or reordered something: {report}")
    waits: Waits = report["waited_ms"]
    return waits, report["count"] / (load.rate if load and load.rate else rate)


def main(options: Options) -> None:
    """Run it: ours in every round, the others once; the percentiles are over all tasks of all rounds."""
    load = os.getloadavg()
    rounds = min(options.rounds, 3)
    adapters = present([BY_NAME[name] for name in OTHERS if BY_NAME[name] in chosen(options.peers)])
    waits: dict[tuple[str, str], Waits] = {}
    with arena() as field:
        warm_broker(field, [BY_NAME["raa-kafka-stateless"]])
        for turn in range(rounds):
            _take(field, BY_NAME[SQLITE], options, waits, ("idle", "half load"))
            say(f"B2 round {turn + 1}/{rounds}")
        for adapter in adapters:
            _take(field, adapter, options, waits, ("idle",))
    found = rows(waits)
    used = {server for row in found for server in BY_NAME[row["name"]].backends}
    packages = {package for row in found for package in BY_NAME[row["name"]].packages}
    write("b2", found, targets(found), load=load, rounds=rounds, quick=options.quick, versions=versions(packages, used))


def _take(
    field: Arena, adapter: Adapter, options: Options, waits: dict[tuple[str, str], Waits], kinds: Sequence[str]
) -> None:
    for kind in kinds:
        try:
            found = idle(field, adapter, options) if kind == "idle" else half(field, adapter, options)[0]
        except (BackendMissing, RunFailed) as problem:
            say(f"B2 {adapter.name}, {kind}: left out, {problem}")
            continue
        waits.setdefault((adapter.name, kind), []).extend(found)
        say(f"B2 {adapter.name}, {kind}: {percentiles(found)}")


def rows(waits: dict[tuple[str, str], Waits]) -> list[dict[str, Any]]:
    """Sum up."""
    return [
        {"name": name, "title": BY_NAME[name].title, "durability": BY_NAME[name].durability, "load": kind}
        | {"waited_ms": percentiles(found)}
        for (name, kind), found in waits.items()
    ]


def targets(found: Sequence[dict[str, Any]]) -> list[Target]:
    """Hold the figures against the aims of this release."""
    own = {row["load"]: row["waited_ms"] for row in found if row["name"] == SQLITE}

    def of(kind: str, figure: str) -> float | None:
        return own[kind][figure] if kind in own else None

    return [
        Target("four hops on Kafka + SQLite, idle, p50", 20, of("idle", "p50"), "ms"),
        Target("four hops on Kafka + SQLite, idle, p95", 50, of("idle", "p95"), "ms"),
        Target("four hops on Kafka + SQLite, half load, p99", 200, of("half load", "p99"), "ms"),
    ]
