"""B3: three stages that each wait 50 ms, 4 partitions, 10,000 keys in order; then one hot key with 30 % of it all."""

import os
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.adapters import BY_NAME, OWN, Adapter
from benchmarks.arena import Arena, arena
from benchmarks.b1 import SQLITE, STATELESS, warm_broker
from benchmarks.figures import is_valid, percentiles, spread
from benchmarks.options import Options, say
from benchmarks.peers.client import Load
from benchmarks.results import Target, versions, write

WAIT_SECONDS = 0.05
KEYS, TASKS = 10_000, 15_000
SERIAL_TASKS = 320
HOT_RATE, HOT_SECONDS, HOT_SHARE = 200.0, 8.0, 0.3
STAGES = 3
Row = dict[str, Any]


def _adapter(module: str, name: str, title: str, durability: str, base: Adapter) -> Adapter:
    python = str(OWN / "python")
    return replace(
        base,
        name=name,
        title=title,
        durability=durability,
        settles_seconds=0.5,  # nothing ends here, so nothing shrinks
        client=(python, "-m", f"benchmarks.{module}", "client"),
        workers=((python, "-m", f"benchmarks.{module}", "worker"),),
    )


WAITING = _adapter("waiting", "raa-waiting", "raa, Kafka, SQLite", BY_NAME[SQLITE].durability, BY_NAME[SQLITE])
SERIAL = _adapter(
    "serial",
    "serial",
    "aiokafka, 4 consumers per stage, serial per partition",
    "acks=all, offsets committed in the background; no state",
    BY_NAME[SQLITE],
)


def many_keys(field: Arena, adapter: Adapter, count: int) -> Row:
    """Run everything at once."""
    load = Load("task", count, keys=min(KEYS, count), seconds=120, stages=_stages_of(adapter))
    return _run(field, adapter, load)


def hot_key(field: Arena, options: Options, share: float) -> Row:
    """Run at a rate, a share of it on one key, which can do 20 a second and so falls behind by design."""
    seconds = HOT_SECONDS / (2 if options.quick else 1)
    # the cold traffic is the same in both runs; the hot key comes on top
    rate = HOT_RATE * (1.0 if share else 1 - HOT_SHARE)
    load = Load("hot", int(rate * seconds), keys=KEYS, rate=rate, hot_share=share, seconds=120)
    return _run(field, WAITING, load)


def _stages_of(adapter: Adapter) -> int:
    return STAGES if adapter is SERIAL else 4  # ours says by the type of its last event that none was left out


def _run(field: Arena, adapter: Adapter, load: Load) -> Row:
    with field.running(adapter, BENCH_WAIT_SECONDS=str(WAIT_SECONDS)) as contender:
        contender.warm_up(load)
        report = contender.run(load)
    verdict = "" if is_valid(report) else " INVALID"
    say(f"B3 {adapter.name} {load.name}: {report['tasks_per_second']:.0f} tasks/s, {report['cpu_ms']:.2f} ms CPU, "
        f"{report['misordered']} out of order, {report['lost']} lost{verdict}")  # fmt: skip
    return report


def main(options: Options) -> None:
    """Run it; the serial consumer is slow and steady, so it runs in two rounds at most."""
    load = os.getloadavg()
    rounds = min(options.rounds, 3)
    ours, serial, cold, hot = [], [], [], []
    with arena() as field:
        warm_broker(field, [BY_NAME[STATELESS]])
        for turn in range(rounds):
            ours.append(many_keys(field, WAITING, options.share(TASKS)))
            if turn < 2:
                serial.append(many_keys(field, SERIAL, options.share(SERIAL_TASKS)))
            cold.append(hot_key(field, options, 0.0))
            hot.append(hot_key(field, options, HOT_SHARE))
            say(f"B3 round {turn + 1}/{rounds}")
    found = [row(WAITING, "10,000 keys", ours), row(SERIAL, "10,000 keys", serial)]
    found += [row(WAITING, "140/s, no hot key", cold), row(WAITING, "200/s, 30 % on one key", hot)]
    write(
        "b3",
        found,
        targets(found, [paired(a, b) for a, b in zip(cold, hot, strict=True)]),
        load=load,
        rounds=rounds,
        quick=options.quick,
        versions=versions((), ["kafka"]),
    )


def row(adapter: Adapter, load: str, reports: Sequence[Row]) -> Row:
    """Sum up the rounds of one load."""
    made: Row = {"name": adapter.name, "title": adapter.title, "durability": adapter.durability, "load": load}
    made |= {key: sum(report[key] for report in reports) for key in ("ended", "lost", "misordered", "duplicates")}
    for figure, digits in (("tasks_per_second", 0), ("cpu_ms", 2)):
        made[figure] = spread([report[figure] for report in reports], digits)
    for waits in ("waited_ms", "waited_hot_ms"):
        if all(waits in report for report in reports):
            made[waits] = percentiles([value for report in reports for value in report[waits]])
    return made


def paired(cold: Row, hot: Row) -> float:
    """Compare the cold keys' p95 with and without the hot key, of the same round, as a factor."""
    return percentiles(hot["waited_ms"])["p95"] / percentiles(cold["waited_ms"])["p95"]


def targets(found: Sequence[Row], dearer: Sequence[float]) -> list[Target]:
    """Hold the figures against the aims of this release."""
    ours, serial = (found[index]["tasks_per_second"]["median"] for index in (0, 1))
    violations = sum(row["misordered"] + row["lost"] for row in found if row["name"] == WAITING.name)
    cost = round((median(dearer) - 1) * 100, 1)
    return [
        Target("tasks per second over three waits of 50 ms", 1_500, ours, "/s", at_most=False),
        Target("lost or out of order within a key, all runs", 0, violations, "tasks"),
        Target("times a consumer that is serial per partition", 20, round(ours / serial, 1), "x", at_most=False),
        Target("what a hot key costs the others at p95", 20, cost, "%"),
    ]
