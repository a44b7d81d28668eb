"""B1: CPU of all processes per task that passes four no-op hops, beside the peers, in interleaved rounds."""

import os
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.adapters import THEIRS, Adapter, chosen
from benchmarks.arena import Arena, arena
from benchmarks.figures import is_valid, ratios, spread
from benchmarks.options import Options, say
from benchmarks.peers.client import Load
from benchmarks.processes import RunFailed
from benchmarks.results import Target, versions, write
from tests.backends.process import BackendMissing

EMBEDDED, SQLITE, STATELESS = "raa-embedded", "raa-kafka-sqlite", "raa-kafka-stateless"
RUN_SECONDS = 60.0
BROKER_WARM_UP = 8_000
Runs = dict[str, dict[int, dict[str, Any]]]


def present(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Leave the peers out where their environment was not made."""
    if (THEIRS / "python").exists():
        return list(adapters)
    say("the peers are left out: there is no .venv-peers; make bench makes it")
    return [adapter for adapter in adapters if adapter.own]


def measure(options: Options) -> Runs:
    """Run every adapter once per round, every other round in the opposite order."""
    adapters = present(chosen(options.peers))
    runs: Runs = {adapter.name: {} for adapter in adapters}
    missing: set[str] = set()
    with arena() as field:
        warm_broker(field, adapters)
        for turn in range(options.rounds):
            for adapter in adapters if turn % 2 == 0 else reversed(adapters):
                if adapter.name not in missing:
                    try:
                        report = one(field, adapter, options.share(adapter.tasks))
                    except (BackendMissing, RunFailed) as problem:
                        say(f"B1 {adapter.name}: left out, {problem}")
                        missing.add(adapter.name)
                        continue
                    runs[adapter.name][turn] = report
                    say(f"B1 round {turn + 1}/{options.rounds} {line(adapter, report)}")
    return runs


def warm_broker(field: Arena, adapters: Sequence[Adapter]) -> None:
    """Let the broker's JVM compile what it needs before anybody is measured on it."""
    on_kafka = next((adapter for adapter in adapters if adapter.name == STATELESS), None)
    if on_kafka:
        one(field, on_kafka, BROKER_WARM_UP)


def one(field: Arena, adapter: Adapter, count: int) -> dict[str, Any]:
    """Run one adapter for itself: start, a tenth to warm up, the load, stop."""
    load = Load("task", count, seconds=RUN_SECONDS)
    with field.running(adapter) as contender:
        contender.warm_up(load)
        return contender.run(load)


def line(adapter: Adapter, report: Mapping[str, Any]) -> str:
    """Describe a run in one line."""
    verdict = "" if is_valid(report) else f", INVALID: {report}"
    return f"{adapter.name}: {report['cpu_ms']:.3f} ms CPU, {report['tasks_per_second']:.0f} tasks/s{verdict}"


def rows(adapters: Mapping[str, Adapter], runs: Runs) -> list[dict[str, Any]]:
    """Sum up the valid runs of each adapter."""
    valid = {name: {turn: run for turn, run in found.items() if is_valid(run)} for name, found in runs.items()}
    cpu = {name: {turn: run["cpu_ms"] for turn, run in found.items()} for name, found in valid.items()}
    made = []
    for name, found in valid.items():
        if not found:
            continue
        row: dict[str, Any] = {"name": name, "title": adapters[name].title, "durability": adapters[name].durability}
        row |= {"tasks": next(iter(found.values()))["count"], "invalid_runs": len(runs[name]) - len(found)}
        row |= {key: sum(run[key] for run in found.values()) for key in ("lost", "misordered", "duplicates")}
        row["cpu_ms"] = spread(list(cpu[name].values()))
        row["cpu_parts_ms"] = {
            part: round(median(run["cpu_parts_ms"][part] for run in found.values()), 3)
            for part in ("client", "workers", "servers")
        }
        row["tasks_per_second"] = spread([run["tasks_per_second"] for run in found.values()], 0)
        row["memory_mb"] = round(median(run["memory_mb"] for run in found.values()), 1)
        for base in (EMBEDDED, SQLITE, STATELESS):
            if pairs := ratios(cpu.get(base, {}), cpu[name]):
                row[f"against_{base}"] = spread(pairs, 2)
        made.append(row)
    return made


def targets(found: Sequence[Mapping[str, Any]]) -> list[Target]:
    """Hold the figures against the aims of this release."""
    by_name = {row["name"]: row for row in found}

    def times(peer: str, base: str) -> float | None:
        row = by_name.get(peer, {}).get(f"against_{base}")
        return row["median"] if row else None

    def of(name: str, figure: str) -> float | None:
        return by_name[name][figure]["median"] if name in by_name else None

    aims = [
        Target("CPU per task, embedded, durable state", 0.5, of(EMBEDDED, "cpu_ms"), "ms"),
        Target("FastStream's CPU / ours on Kafka without state", 3, times("faststream", STATELESS), "x", at_most=False),
        Target("FastStream's CPU / ours on Kafka + SQLite", 1, times("faststream", SQLITE), "x", at_most=False),
    ]
    aims += [
        Target(f"{peer}'s CPU / {base}", goal, times(peer, base), "x", at_most=False)
        for peer, goal in (("celery", 8), ("langgraph-sqlite", 10), ("langgraph-postgres", 10), ("dbos", 10))
        for base in (EMBEDDED, SQLITE)
    ]
    rate = of(SQLITE, "tasks_per_second")
    return [
        *aims,
        Target("tasks per second, Kafka + SQLite, broker on the same cores", 1_500, rate, "/s", at_most=False),
    ]


def main(options: Options) -> None:
    """Run it."""
    load = os.getloadavg()
    runs = measure(options)
    adapters = {adapter.name: adapter for adapter in chosen(options.peers)}
    found = rows(adapters, runs)
    used = [adapters[row["name"]] for row in found]
    write(
        "b1",
        found,
        targets(found),
        load=load,
        rounds=options.rounds,
        quick=options.quick,
        versions=versions(
            {package for adapter in used for package in adapter.packages},
            {server for adapter in used for server in adapter.backends},
        ),
    )
