"""From a seed to a run to a verdict."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from raa_runtime.bus.port import Message, Record
from raa_runtime.simulated.clock import virtual_now
from raa_runtime.simulated.world import Program, Weather, World
from raa_schemas.cancel import CancelRequested
from raa_schemas.envelope import Envelope
from raa_schemas.event import Event
from raa_schemas.task import TaskCreated
from raa_schemas.topics import topic_of
from tests.faults.history import Seen, judge
from tests.simulation.family import EFFECTS, Family
from tests.simulation.rest import at_rest, broken_promises
from tests.simulation.tools import ToolServer

MOST_CALM_SECONDS = 240


@dataclass
class Verdict:
    """What became of one seed."""

    seed: int
    violations: list[str]
    digest: int
    seconds: float
    steps: int
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Fault:
    """One thing that goes wrong at a time."""

    at: float
    what: str
    program: Program | None = None
    seconds: float = 0.0


def message(event: Event, event_id: str, tenant: str = "default") -> Message:
    """Encode an event as a client would."""
    topic = topic_of(type(event))
    envelope = Envelope(id=event_id, source="client", type=event.event_type(), time=virtual_now(),
                        subject=event.task_id, tenant=tenant, dataschema=event.schema_name())  # fmt: skip
    key = topic.aggregate_id(tenant, event.task_id, None)
    return Message(topic.name, key.encode(), event.to_json(), tuple(envelope.headers()))


def seen(record: Record) -> Seen:
    headers = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
    return Seen(record.topic, record.partition, record.offset, record.timestamp.timestamp(), headers, record.value)


class Play:
    """A world with the small family, its weather and its faults, all drawn from the seed."""

    def __init__(self, world: World) -> None:
        self.world, self.chance = world, world.chance
        self.tools = ToolServer(world.chance)
        self.family = Family(world, self.tools)
        self.faults: list[Fault] = []
        self.tasks: list[tuple[float, Message]] = []
        self.storm_seconds = 0.0

    def draw(self) -> None:
        """Decide what happens."""
        chance = self.chance
        for service in ("planner", "safety", "executor", "reflector"):
            for number in range(1 + chance.up_to(2)):
                self.family.program(service, number + 1, skew=chance.between(-1.5, 1.5))
        self.storm_seconds = chance.between(2.0, 15.0)
        self.faults = sorted((self._fault() for _ in range(chance.up_to(5))), key=lambda fault: fault.at)

    def weather(self) -> Weather:
        chance = self.chance
        often = 0.0 if chance.happens(0.2) else chance.between(0.0, 0.15)

        def maybe() -> float:
            return often if chance.happens(0.5) else 0.0

        self.family.hiccups = maybe()
        return Weather(delay=0.02, slow=maybe(), lost_reply=maybe(), duplicate=maybe(), held_back=maybe(),
                       stale=maybe(), bad_batch=0.5)  # fmt: skip

    def _fault(self) -> Fault:
        what = self.chance.one_of(["kill", "kill_at", "kill_at", "freeze", "rebalance", "bus", "store"])
        program = self.chance.one_of(list(self.world.programs.values()))
        return Fault(self.chance.between(0.0, self.storm_seconds), what, program, self.chance.between(0.5, 12.0))

    async def submit(self) -> None:
        """Send tasks, some twice, some cancelled, some before they are there."""
        chance = self.chance
        for number in range(2 + chance.up_to(3)):
            goal = " ".join(chance.one_of(EFFECTS) for _ in range(1 + chance.up_to(3)))
            task = f"t{number}"
            created = message(TaskCreated(task_id=task, goal=goal), f"created-{task}")
            self._at(chance.between(0.0, 4.0), created)
            if chance.happens(0.2):
                self._at(chance.between(0.0, 8.0), created)
            if chance.happens(0.2):
                self._at(chance.between(0.0, 8.0), message(CancelRequested(task_id=task), f"cancel-{task}"))

    def _at(self, seconds: float, what: Message) -> None:
        self.world.broker.later(seconds, lambda: self.world.broker.append([what]) and None)

    async def run(self) -> list[str]:
        """Play it; returns what was broken."""
        self.draw()
        for program in self.world.programs.values():
            self.world.start(program)
        await asyncio.sleep(self.chance.between(0.0, 1.0))
        self.chance.weather = self.weather()
        await self.submit()
        for fault in self.faults:
            await asyncio.sleep(max(0.0, fault.at - self.world.loop.time()))
            self.strike(fault)
        await asyncio.sleep(max(0.0, self.storm_seconds - self.world.loop.time()))
        self.calm()
        return await self.settle()

    def strike(self, fault: Fault) -> None:
        """Let one fault happen."""
        world, program = self.world, fault.program
        world.say(None, f"{fault.what} {program.name if program else ''} {fault.seconds:.1f}")
        if program is None:
            return
        if fault.what == "kill":
            world.kill(program)
            world.broker.later(fault.seconds, lambda: world.start(program) and None)
        elif fault.what == "kill_at":
            world.kill_at(program, 1 + self.chance.up_to(400))
            world.broker.later(fault.seconds + 2, lambda: world.start(program) and None)
        elif fault.what == "freeze":
            world.freeze(program)
            world.broker.later(fault.seconds, lambda: world.thaw(program))
        elif fault.what == "rebalance":
            world.broker.group(program.service).change()
        else:
            self._outage(world.broker if fault.what == "bus" else world.store(program.service), fault.seconds)

    def _outage(self, server: Any, seconds: float) -> None:
        def back() -> None:
            server.away -= 1

        server.away += 1
        self.world.broker.later(seconds, back)

    def calm(self) -> None:
        """End the storm: everything is there again, and stays."""
        self.chance.weather = Weather()
        self.family.hiccups = 0.0
        for program in self.world.programs.values():
            if program.process is not None:
                program.process.dies_at = None
            self.world.thaw(program)
            self.world.start(program)

    async def settle(self) -> list[str]:
        """Wait until everything is quiet, and judge."""
        reasons: list[str] = ["it was never looked at"]
        for _ in range(MOST_CALM_SECONDS):
            await asyncio.sleep(1.0)
            for program in self.world.programs.values():
                self.world.start(program)
            reasons = at_rest(self.world)
            if not reasons:
                break
        return [f"never quiet: {reason}" for reason in reasons] + list(self.judged())

    def judged(self) -> Iterator[str]:
        """Give everything that is wrong with what was left."""
        records = [seen(record) for parts in self.world.broker.topics.values() for log in parts for record in log]
        verdict = judge(records, self.tools.ledger)
        self.figures = verdict.figures
        yield from verdict.violations
        yield from broken_promises(self.world)
        yield from (f"defect: {defect}" for defect in self.world.defects)


def simulate(
    seed: int, play: Callable[[World], Play] = Play, log: Callable[[str], None] | None = None
) -> Verdict:
    """Play one seed."""
    with World(seed) as world:
        world.log = log
        told = play(world)
        if log is not None:
            world.broker.observers.append(lambda record: world.say(None, _line(record)))
        violations = world.run(told.run())
        return Verdict(seed, violations, world.loop.digest, world.loop.now, world.loop.steps, told.figures)


def _line(record: Record) -> str:
    headers = dict(record.headers)
    where = f"{record.topic}/{record.partition}@{record.offset}"
    return f"record {where} {(headers.get('ce_id') or b'').decode()[:13]} {(record.value or b'')[:300].decode()}"
