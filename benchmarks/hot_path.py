"""What one event costs on its way through the runtime, stage by stage, as ratios to work done in the same run.

The yardstick is reading and writing the same event with pydantic and some plain Python, so that a faster machine, or
one that is busy, moves both. Stages and yardstick take turns; of each the fastest turn counts.
"""

import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks.floor import HOP, NoState, on_event
from benchmarks.measure import report
from raa_runtime.bus.port import Message, Record
from raa_runtime.clock import SystemClock
from raa_runtime.dispatch import Dispatcher, On
from raa_runtime.intake import Addressed, read_body
from raa_runtime.lanes import Lanes
from raa_runtime.main import run_loop
from raa_runtime.redrive import GroupIntake
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import Aggregate
from raa_runtime.state.codec import decode, encode
from raa_runtime.telemetry import logger
from raa_runtime.testing import message_of
from raa_runtime.unit import Unit
from raa_runtime.unit_of_work import UnitOfWork
from raa_runtime.watermark import Watermark
from raa_schemas.ids import AggregateId
from raa_schemas.task import TaskCreated, TaskStatus
from raa_schemas.tenants import IntakePolicy

EVENTS: Final = 200
ROUNDS: Final = 9
# A stage fails beyond this many yardsticks: about 1.4 times what it takes. Noise moved the ratios by 5 % on a machine
# with ten times more to do than cores; a stray validation, copy or task per event is beyond it.
LIMITS: Final = {"envelope": 0.16, "validate": 0.15, "lane": 0.06, "encode": 0.52, "decode": 0.12, "unit": 1.55}


class Nowhere:
    """A bus on which everything is durable at once."""

    async def publish(self, messages: Sequence[Message], **_: Any) -> list[Exception | None]:
        """Keep nothing."""
        return [None] * len(messages)


class Forgetful(NoState):
    """A store that neither keeps nor finds anything, and has no file."""

    def __init__(self) -> None:
        pass

    async def find_many(self, kind: str, wanted: Sequence[Any]) -> list[Any]:
        """Find nothing."""
        return [None] * len(wanted)


class Ride:
    """Take records through lanes as the consumer does."""

    def __init__(self, dispatcher: Dispatcher | None = None) -> None:
        self.dispatcher = dispatcher
        self.mark = Watermark()

    async def together(self, items: Sequence[Addressed]) -> Sequence[bool]:
        """Handle all, or only settle them."""
        done = await self.dispatcher.handle_all(items) if self.dispatcher else [True] * len(items)
        for item in items:
            self.mark.settle(item.record.offset)
        return done

    async def alone(self, item: Addressed) -> None:
        """Never needed: everything here is plain."""
        raise AssertionError(f"{item.aggregate} left its convoy")


def records() -> list[Record]:
    """Make events as they come from the bus."""
    now = datetime.now(UTC)
    messages = [message_of(TaskCreated(task_id=f"task{number}", goal="nothing")) for number in range(EVENTS)]
    return [
        Record(message.topic, 0, number, now, message.key, message.value, message.headers)
        for number, message in enumerate(messages)
    ]


def dispatcher(lanes: Lanes, intake: GroupIntake) -> Dispatcher:
    """Put a service together that keeps nothing."""
    bus: Any = Nowhere()
    clock, log = SystemClock(), logger("hop")
    work = UnitOfWork("hop", "", "hop:1:a", Forgetful(), bus, clock, log, lambda *_: None, lambda *_: None)
    return Dispatcher(
        service="hop",
        work=work,
        lanes=lanes,
        intake=intake,
        settings=ServiceSettings.from_env({}),
        kinds={"hop": HOP},
        on={"task.created": On(TaskCreated, HOP, on_event)},
        completed={},
        timers={},
        dead=frozenset,
        lives=lambda _: True,
    )


def yardstick(taken: Sequence[Record]) -> None:
    """Read and write each event ten times, and add some numbers."""
    for record in taken:
        total = 0
        for number in range(10):
            total += len(TaskCreated.model_validate_json(record.value or b"").model_dump_json()) + number


def told() -> Unit[Any]:
    """Make a unit that publishes one event."""
    aggregate = Aggregate(AggregateId("default/task1"), "default", "task1", HOP.state())
    unit = Unit(HOP, aggregate, datetime.now(UTC), "hop", "", "hop:1:a")
    unit.publish(TaskStatus(task_id="task1", state="running"))
    return unit


def stages() -> dict[str, Callable[[], Awaitable[None]]]:
    """Name the stages; each goes over all events once."""
    intake = GroupIntake("", IntakePolicy(), "hop")
    taken = records()
    addressed = [intake.address(record) for record in taken]
    document = encode(HOP, told().aggregate).document | {"state": {}, "context": {}, "outbox": []}

    async def envelope() -> None:
        for record in taken:
            intake.take(record)

    async def validate() -> None:
        for item in addressed:
            read_body(item)

    async def ride(*, with_units: bool) -> None:
        lanes = Lanes()
        riding = Ride(dispatcher(lanes, intake) if with_units else None)
        for item in addressed:
            riding.mark.take(item.record.offset)
            lanes.join(item.aggregate, riding, item, 0)
        await lanes.idle()

    async def encoding() -> None:
        for _ in taken:
            encode(HOP, told().aggregate)

    async def decoding() -> None:
        for _ in taken:
            decode(HOP, document)

    return {
        "envelope": envelope,
        "validate": validate,
        "lane": lambda: ride(with_units=False),
        "encode": encoding,
        "decode": decoding,
        "unit": lambda: ride(with_units=True),
    }


async def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Give the CPU of each stage per event, in yardsticks of ten events read and written."""
    taken, parts = records(), stages()
    fastest = dict.fromkeys(["yardstick", *parts], float("inf"))
    gc.collect()
    gc.disable()  # a collection falls on whoever comes last
    try:
        for _ in range(rounds):
            for name, work in parts.items():
                begun = time.process_time()
                yardstick(taken)
                between = time.process_time()
                await work()
                fastest["yardstick"] = min(fastest["yardstick"], between - begun)
                fastest[name] = min(fastest[name], time.process_time() - between)
    finally:
        gc.enable()
    print(f"one yardstick: {fastest['yardstick'] / EVENTS * 1e6:.1f} us")
    return {name: round(fastest[name] / fastest["yardstick"], 3) for name in parts}


def main() -> None:
    """Measure, and print what is beyond its limit."""
    figures = run_loop(measure())
    report(
        "hot_path",
        figures,
        durability="none: one process, no bus, no store",
        targets={name: f"<= {limit} yardsticks" for name, limit in LIMITS.items()},
    )
    for name, ratio in figures.items():
        if ratio > LIMITS[name]:
            print(f"{name} takes {ratio} yardsticks, more than {LIMITS[name]}")


if __name__ == "__main__":
    main()
