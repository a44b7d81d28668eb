"""Whole tasks through all six services on the embedded stack: one at a time, and 200 at once."""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import clocked, percentile, report, resident_mb
from raa_cli.stack import Stack
from raa_runtime.main import run_loop, settle_memory
from raa_runtime.scope import TenantScope
from raa_runtime.telemetry import configure_logging
from raa_runtime.testing import message_of
from raa_schemas.artifact import Input
from raa_schemas.ids import TenantId
from raa_schemas.task import TaskCreated

SEQUENTIAL, AT_ONCE = 100, 200
WINE = Path(__file__).parent.parent / "examples" / "data" / "winequality-red.csv"
Make = Callable[[str], TaskCreated]


class Watcher:
    """Note when each task is done, and that it succeeded."""

    def __init__(self, bus: Any) -> None:
        self._bus = bus
        self._done: dict[str, float] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow task.done."""
        async for record in self._bus.read(["task.done"], from_beginning=True, follow=True):
            body = json.loads(record.value)
            if body["outcome"] != "succeeded":
                raise RuntimeError(f"an invalid run: {body}")
            self._done[body["task_id"]] = time.monotonic()
            self._changed.set()

    async def until(self, count: int) -> None:
        """Wait until so many are done."""
        while len(self._done) < count:
            self._changed.clear()
            await self._changed.wait()

    def at(self, task: str) -> float:
        """Say when a task was done."""
        return self._done[task]

    def __len__(self) -> int:
        """Count the tasks that are done."""
        return len(self._done)


async def one_at_a_time(stack: Stack, watcher: Watcher, name: str, make: Make) -> list[float]:
    """Submit a task, wait for its end, and so on; gives milliseconds each."""
    times = []
    for number in range(SEQUENTIAL + 10):
        task = f"{name}{number}"
        message = message_of(make(task))
        begun, before = time.monotonic(), len(watcher)
        await stack.bus.publish([message])
        await watcher.until(before + 1)
        times.append((watcher.at(task) - begun) * 1000)
    return times[10:]


async def at_once(stack: Stack, watcher: Watcher, name: str, make: Make) -> None:
    """Submit many tasks together and wait for all."""
    before = len(watcher)
    await stack.bus.publish([message_of(make(f"{name}-all-{number}")) for number in range(AT_ONCE)])
    await watcher.until(before + AT_ONCE)


async def main() -> None:
    """Run it."""
    configure_logging("warning")
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(Path(folder), environment={}) as stack:
            await stack.ready()
            settle_memory()
            watcher = Watcher(stack.bus)
            following = asyncio.create_task(watcher.run())
            content = WINE.read_bytes()
            figures: dict[str, Any] = {"idle_resident_mb": resident_mb()}

            def calculate(task: str) -> TaskCreated:
                return TaskCreated(task_id=task, goal="what is 17 * (3 + 4)")

            def query(task: str) -> TaskCreated:
                wine = Input(name="wine.csv", uri=f"blob:sha256/{blobs[task]}")
                return TaskCreated(task_id=task, goal="Average of alcohol in wine.csv", inputs=[wine])

            blobs = {
                f"{prefix}{number}": await stack.blobs.put(
                    TenantScope(TenantId("default")), f"{prefix}{number}", content
                )
                for prefix, count in (("query", SEQUENTIAL + 10), ("query-all-", AT_ONCE))
                for number in range(count)
            }
            for name, make in (("calculate", calculate), ("query", query)):
                times = await one_at_a_time(stack, watcher, name, make)
                figures[f"{name}_p50_ms"] = round(percentile(times, 0.5), 1)
                figures[f"{name}_p95_ms"] = round(percentile(times, 0.95), 1)
                with clocked(figures, name, AT_ONCE):
                    await at_once(stack, watcher, name, make)
            figures["resident_mb"] = resident_mb()
            following.cancel()
    report(
        "tasks",
        figures,
        durability="SQLite synchronous=FULL for state and log, group commit",
        targets={
            "calculate_p50_ms": "<= 60",
            "calculate_p95_ms": "<= 150",
            "calculate_per_second": ">= 60",
            "idle_resident_mb": "<= 200",
        },
    )


if __name__ == "__main__":
    run_loop(main())
