"""B4: a backlog of 100,000 drained, 100,000 records replayed to a new group, and a worker killed at full load."""

import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.adapters import BY_NAME, OWN
from benchmarks.arena import Arena, arena
from benchmarks.b1 import SQLITE, STATELESS, warm_broker
from benchmarks.figures import spread
from benchmarks.options import Options, say
from benchmarks.peers.client import Load
from benchmarks.processes import Child, cpu_seconds_of
from benchmarks.results import Target, versions, write
from tests.backends.process import Server

RECORDS = 100_000
JOB_SECONDS = 300.0
KILL_AFTER_SECONDS = 2.5
KILL_TASKS = 10_000
KILL_ROUNDS = 3
DURABILITY = {
    "drain": BY_NAME[SQLITE].durability,
    "replay": "reads and commits only",
}
Row = dict[str, Any]


def job(broker: Server, folder: Path, run: str, name: str, count: int) -> Row:
    """Do one job in a process of its own; adds its CPU and the broker's."""
    environment = {
        "BENCH_KAFKA": broker.address,
        "BENCH_RUN": run,
        "BENCH_VARIANT": "kafka-sqlite",
        "BENCH_FOLDER": str(folder),
    }
    command = (str(OWN / "python"), "-m", "benchmarks.backlog", name, str(count))
    before = cpu_seconds_of([broker.process.pid])
    child = Child(command, environment, folder / f"{name}.log", talks=True)
    try:
        report: Row = child.hear(JOB_SECONDS)
        used = cpu_seconds_of([broker.process.pid]) - before, cpu_seconds_of([child.pid])
    finally:
        child.stop()
    report |= {"per_second": count / report["seconds"], "cpu_ms": sum(used) / count * 1000}
    say(f"B4 {name}: {report['per_second']:.0f} records/s, {report['cpu_ms']:.3f} ms CPU a record, with the start")
    return report


def backlog(field: Arena, count: int) -> list[Row]:
    """Fill, drain, replay, once each: 100,000 records are their own repetition."""
    run, broker = f"b{uuid.uuid4().hex[:8]}", field.server("kafka")
    with tempfile.TemporaryDirectory(prefix="raa-bench-", ignore_cleanup_errors=True) as folder:
        reports = {name: job(broker, Path(folder), run, name, count) for name in ("fill", "drain", "replay")}
    return [
        {
            "name": name,
            "title": title,
            "durability": DURABILITY[name],
            "records": count,
            "lost": max(0, count - int(reports[name]["records"])),
            "duplicates": max(0, int(reports[name]["records"]) - count),
            "per_second": round(reports[name]["per_second"]),
            "cpu_ms": round(reports[name]["cpu_ms"], 3),
            "seconds": round(reports[name]["seconds"], 1),
        }
        for name, title in (("drain", "backlog of one service, state on"), ("replay", "replay to a new group"))
    ]


def kill(field: Arena, count: int) -> Row:
    """Kill the worker at full load, start it again at once as a supervisor would, and see everything end."""
    load = Load("kill", count, seconds=120)
    with field.running(BY_NAME[SQLITE]) as contender:
        contender.warm_up(load)
        contender.begin(load)
        time.sleep(KILL_AFTER_SECONDS)
        contender.workers[0].kill()
        contender.restart(0)
        report = contender.end(load)
    say(f"B4 kill -9: silent for {report['longest_silence_seconds']:.1f} s, {report['lost']} lost, "
        f"{report['duplicates']} published twice")  # fmt: skip
    return report


def main(options: Options) -> None:
    """Run it."""
    load = os.getloadavg()
    with arena() as field:
        warm_broker(field, [BY_NAME[STATELESS]])
        found = backlog(field, options.share(RECORDS))
        kills = [kill(field, options.share(KILL_TASKS)) for _ in range(min(options.rounds, KILL_ROUNDS))]
    found.append(killed(kills))
    write(
        "b4", found, targets(found), load=load, rounds=len(kills), quick=options.quick, versions=versions((), ["kafka"])
    )


def killed(kills: Sequence[Mapping[str, Any]]) -> Row:
    """Sum up the kills."""
    row: Row = {"name": "kill", "title": "kill -9 of the worker at full load", "durability": BY_NAME[SQLITE].durability}
    row |= {key: sum(report[key] for report in kills) for key in ("ended", "lost", "misordered", "duplicates")}
    return row | {"silence_seconds": spread([report["longest_silence_seconds"] for report in kills], 1)}


def targets(found: Sequence[Row]) -> list[Target]:
    """Hold the figures against the aims."""
    by_name = {row["name"]: row for row in found}
    return [
        Target("replay to a new group", 8_000, by_name["replay"]["per_second"], "/s", at_most=False),
        Target(
            "seconds without a task's end after kill -9, worst", 15, by_name["kill"]["silence_seconds"]["high"], "s"
        ),
        Target("lost, all of B4", 0, sum(row["lost"] for row in found), "records"),
    ]
