"""From a seed to a run to a verdict."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from raa_runtime.bus.port import Message, Record
from raa_runtime.simulated.world import Program, Weather, World
from raa_schemas.cancel import CancelRequested
from tests.faults.history import judge
from tests.simulation.family import Family
from tests.simulation.messages import message, seen
from tests.simulation.rest import at_rest, broken_promises
from tests.simulation.six import Six, without_http
from tests.simulation.tools import ToolServer

MOST_CALM_SECONDS = 240
FOLDER = Path(gettempdir()) / "raa-simulation"


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


class Play:
    """A world with a house of services, its weather and its faults, all drawn from the seed."""

    def __init__(self, world: World, house: type[Family | Six] = Family) -> None:
        self.world, self.chance = world, world.chance
        self.tools = ToolServer(world.chance)
        self.house = house(world, self.tools)
        self.faults: list[Fault] = []
        self.tasks: list[tuple[float, Message]] = []
        self.storm_seconds = 0.0
        self.stormy = self.burst = False
        self.fenced: list[str] = []
        self._told: set[str] = set()
        world.store("executor").observers.append(self._watch_epochs)

    def _watch_epochs(self, _: str, document: dict[str, Any]) -> None:
        """Compare what is stored as an outcome with what the far side has seen: a taken-over call decides nothing."""
        for entry in document["outbox"]:
            if entry["topic"] != "step.done" or entry["event_id"] in self._told:
                continue
            self._told.add(entry["event_id"])
            body = json.loads(entry["value"])
            place = (document["tenant"], document["task"], f"v{body['plan_version']}/{body['step']}")
            newest = max((call.epoch for call in self.tools.ledger if (call.tenant, call.task, call.step) == place),
                         default=0)  # fmt: skip
            if body["epoch"] < newest:
                self.fenced.append(f"fenced: {'/'.join(place)} ended by epoch {body['epoch']} after {newest} had begun")

    def draw(self) -> None:
        """Decide what happens."""
        chance = self.chance
        for service in self.house.services:
            for number in range(1 + chance.up_to(2)):
                self.house.program(service, number + 1, skew=chance.between(-1.5, 1.5))
        self.storm_seconds = chance.between(4.0, 16.0)
        self.tools.seconds = chance.one_of([0.0, 0.5, 6.0])
        self.faults = sorted((self._fault() for _ in range(chance.up_to(4))), key=lambda fault: fault.at)
        for _ in range(chance.up_to(5)):
            self._set_trap()
        if chance.happens(0.4):
            self._lose_and_kill()
        if chance.happens(0.2):
            self._freeze_in_a_call()

    def weather(self) -> Weather:
        chance = self.chance
        calm = chance.happens(0.1)

        def maybe(most: float) -> float:
            return 0.0 if calm or chance.happens(0.5) else chance.between(0.0, most)

        self.house.hiccups = maybe(0.5)
        return Weather(delay=chance.one_of([0.002, 0.02, 0.1]), slow=maybe(0.2), lost_request=maybe(0.2),
                       lost_reply=maybe(0.2), duplicate=maybe(0.5), held_back=maybe(0.3), stale=maybe(0.3),
                       bad_batch=0.5)  # fmt: skip

    def _fault(self) -> Fault:
        what = self.chance.one_of(["kill", "kill_at", "freeze", "rebalance", "rebalance", "bus", "store"])
        program = self.chance.one_of(list(self.world.programs.values()))
        return Fault(self.chance.between(0.0, min(self.storm_seconds, 8.0)), what, program, self._duration())

    def _duration(self) -> float:
        return self.chance.between(0.1, 1.0) if self.chance.happens(0.5) else self.chance.between(1.0, 12.0)

    def _set_trap(self) -> None:
        """Let something go wrong at the worst moment: when a write, a publication or a call has just been done."""
        service = self.chance.one_of(self.house.services)
        server = self.chance.one_of(
            [self.world.store(service), self.world.store(service), self.world.broker, self.tools]
        )
        left = 1 + self.chance.up_to(16 if server is self.world.broker else 4)
        wait = 0.0 if self.chance.happens(0.6) else self.chance.between(0.0, 3.0)
        fault = Fault(0.0, self.chance.one_of(["kill", "kill", "freeze", "rebalance"]), None, self._duration())

        def watch() -> None:
            nonlocal left
            if server.asking is None or not self.stormy:
                return
            left -= 1
            if left == 0:
                fault.program = self.world.programs[server.asking.name]
                if wait:
                    self.world.broker.later(wait, lambda: self.strike(fault) if self.stormy else None)
                else:
                    self.strike(fault)

        server.watchers.append(watch)

    def _lose_and_kill(self) -> None:
        """Lose a publication of one service on the way, and a little later the service, when others went well."""
        service, left, seconds = self.chance.one_of(self.house.services), 1 + self.chance.up_to(2), self._duration()
        self.burst = True

        def swallow(process: Any, change: str) -> bool:
            nonlocal left
            if (
                change != "publish"
                or process is None
                or not self.stormy
                or self.world.programs[process.name].service != service
            ):
                return False
            left -= 1
            if left == 0:
                fault = Fault(0.0, "kill", self.world.programs[process.name], seconds)
                self.world.broker.later(self.chance.between(0.5, 2.0), lambda: self.strike(fault))
            return left == 0

        self.world.broker.swallow = swallow

    def _freeze_in_a_call(self) -> None:
        """Freeze an executor whose call is under way, for as long as another needs to take it over."""
        self.tools.seconds, left = 6.0, 1 + self.chance.up_to(3)
        seconds = self.chance.between(4.0, 9.0)

        def watch() -> None:
            nonlocal left
            left -= 1
            if left == 0 and self.stormy and self.tools.asking is not None:
                self.strike(Fault(0.0, "freeze", self.world.programs[self.tools.asking.name], seconds))

        self.tools.watchers.append(watch)

    async def submit_some(self) -> None:
        """Send tasks, some twice, some cancelled, some before they are there."""
        chance = self.chance
        spread = 0.1 if self.burst else chance.one_of([0.1, 4.0])
        for number in range(2 + chance.up_to(3)):
            task = f"t{number}"
            created = message(self.house.task(task), f"created-{task}")
            self._at(chance.between(0.0, spread), created)
            if chance.happens(0.2):
                self._at(chance.between(0.0, 8.0), created)
            if chance.happens(0.2):
                self._at(chance.between(0.0, 8.0), message(CancelRequested(task_id=task), f"cancel-{task}"))

    def _at(self, seconds: float, what: Message) -> None:
        self.world.broker.later(seconds, lambda: self.world.broker.append([what]))

    async def run(self) -> list[str]:
        """Play it; returns what was broken."""
        self.draw()
        for program in self.world.programs.values():
            self.world.start(program)
        await asyncio.sleep(self.chance.between(0.0, 1.0))
        self.chance.weather = self.weather()
        self.stormy = True
        await self.submit_some()
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
            world.broker.later(fault.seconds, lambda: world.start(program))
        elif fault.what == "kill_at":
            world.kill_at(program, 1 + self.chance.up_to(400))
            world.broker.later(fault.seconds + 2, lambda: world.start(program))
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
        self.stormy = False
        self.chance.weather = Weather()
        self.house.hiccups = 0.0
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
        yield from self.fenced
        yield from broken_promises(self.world)
        yield from (f"defect: {defect}" for defect in self.world.defects)


def simulate(seed: int, house: type[Family | Six] = Family, log: Callable[[str], None] | None = None) -> Verdict:
    """Play one seed."""
    with World(seed, partitions=1 + seed % 3, folder=FOLDER) as world, without_http(world):
        world.log = log
        told = Play(world, house)
        if log is not None:
            world.broker.observers.append(lambda record: world.say(None, _line(record)))
        violations = world.run(told.run())
        return Verdict(seed, violations, world.loop.digest, world.loop.now, world.loop.steps, told.figures)


def _line(record: Record) -> str:
    headers = dict(record.headers)
    where = f"{record.topic}/{record.partition}@{record.offset}"
    return f"record {where} {(headers.get('ce_id') or b'').decode()[:13]} {(record.value or b'')[:300].decode()}"
