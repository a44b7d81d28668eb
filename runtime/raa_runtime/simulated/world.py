"""A world: processes with real `Service` objects over one broker and their stores, in virtual time, from one seed."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self, TypeVar, cast

from raa_runtime import activities, consumer, liveness, wakes
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.kv import InProcessKeyValue
from raa_runtime.platform import Platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.simulated.broker import Broker
from raa_runtime.simulated.bus import SimulatedBus
from raa_runtime.simulated.chance import Chance, Weather
from raa_runtime.simulated.clock import SkewedClock
from raa_runtime.simulated.floor import Absent, SimulatedBlobs, SimulatedPlatform
from raa_runtime.simulated.loop import SimulatedLoop, dismiss, lay_to_rest
from raa_runtime.simulated.process import OUTSIDE, PROCESS, Process
from raa_runtime.simulated.store import SimulatedStore, StoreServer
from raa_runtime.state.port import DocumentStore
from raa_runtime.topics import topic_specs

T = TypeVar("T")
Build = Callable[[Any, Platform], Service]
# Coarser than in production, so that a minute of virtual time costs milliseconds; what depends on them stays in order.
POLL_SECONDS: Final = 1.0
_DEFECTS: Final = frozenset(
    {"lane_failed", "handler_defect", "unit_defect", "wake_defect", "activity_defect", "quarantine_failed", "stuck"}
)


@dataclass
class Program:
    """What a process runs, however often it is started again."""

    name: str
    service: str
    build: Build
    settings: type[ServiceSettings] = ServiceSettings
    overrides: dict[str, Any] = field(default_factory=dict)
    skew: float = 0.0
    process: Process | None = None
    running: Service | None = None

    @property
    def up(self) -> bool:
        """Say whether a process of it is there, frozen or not."""
        return self.process is not None and self.process.state != "dead"


class World:
    """Everything there is. Use it as a context manager: inside it, chance and time are the world's."""

    def __init__(
        self, seed: int, *, partitions: int = 3, lease_seconds: float = 3.0, folder: Path = Path("nowhere")
    ) -> None:
        self.seed = seed
        self.loop = SimulatedLoop(seed)
        self.chance = Chance(seed)
        self.broker = Broker(self.chance)
        self.stores: dict[str, StoreServer] = {}
        self.blobs = SimulatedBlobs()
        self.programs: dict[str, Program] = {}
        self.processes: list[Process] = []
        self.defects: list[str] = []
        self.log: Callable[[str], None] | None = None
        self._folder, self._partitions, self._lease_seconds = folder, partitions, lease_seconds
        self._graveyard: list[asyncio.Task[Any]] = []
        self._stack = contextlib.ExitStack()
        self.loop.killer = self._bury
        self.loop.set_exception_handler(self._loop_says)

    def __enter__(self) -> Self:
        for module, name, value in self._replacements():
            self._stack.enter_context(replaced(module, name, value))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.state, process.requests_arrive = "dead", False
        self._graveyard += self.loop.end()
        lay_to_rest(self._graveyard)
        self._graveyard.clear()
        self._stack.close()

    def _replacements(self) -> list[tuple[Any, str, Any]]:
        chance = SimpleNamespace(uniform=self.chance.between)
        return [
            (liveness, "new_incarnation", _incarnation),
            (liveness, "_may_run", self._may_run),
            (activities, "random", chance),
            (consumer, "_POLL_SECONDS", POLL_SECONDS),
            (wakes, "POLL_SECONDS", POLL_SECONDS),
        ]

    def _may_run(self, incarnation: str) -> bool:
        number = int(incarnation.rpartition(":")[2])
        return self.processes[number].state != "dead"

    def _loop_says(self, _: Any, context: dict[str, Any]) -> None:
        if problem := context.get("exception"):
            self.defects.append(f"{context['message']}: {problem!r}")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the world until this is done; tasks of processes go on only while it runs."""
        return self.loop.run_until_complete(work)

    # what there is

    def store(self, service: str) -> StoreServer:
        """Give the store of a service."""
        return self.stores.setdefault(service, StoreServer(service, self.chance))

    def add(self, program: Program) -> Program:
        """Add a program; it runs once it is started."""
        self.programs[program.name] = program
        if not self.broker.topics:
            self.broker.create(topic_specs(self._settings(program)))
        return program

    def _settings(self, program: Program) -> ServiceSettings:
        own = {
            "data": self._folder,
            "http_host": "",
            "create_topics": False,
            "lease_seconds": self._lease_seconds,
            "instance": program.name,
            "kafka_partitions": self._partitions,
            "store": "mongo",
        }
        return program.settings.from_env({}, **(own | program.overrides))

    # what becomes of processes

    def start(self, program: Program) -> Process:
        """Start a process of a program, unless one is there."""
        if program.process is not None and program.up:
            return program.process
        process = Process(program.name, len(self.processes))
        self.processes.append(process)
        program.process, program.running = process, None
        self.say(process, "starts")
        self.loop.create_task(self._live(program, process), context=process.context)
        return process

    async def _live(self, program: Program, process: Process) -> None:
        settings = self._settings(program)
        service = program.build(settings, self._platform(program, process))
        program.running = service
        try:
            await service.start()
        except DependencyUnavailable as away:  # as the main program does; whoever watches over it starts it again
            self.say(process, f"ends: {away}")
            self._bury(process)

    def _platform(self, program: Program, process: Process) -> SimulatedPlatform:
        clock = SkewedClock(program.skew, begun=100.0 * len(self.processes))
        platform = SimulatedPlatform(
            deployment="",
            data=self._folder,
            bus=SimulatedBus(self.broker),
            blobs=self.blobs,
            http=cast(Any, Absent("HTTP")),
            open_store=self._open_store,
            kv=InProcessKeyValue(clock),
            clock=clock,
        )
        platform.told = lambda level, event, facts: self._told(process, level, event, facts)
        return platform

    def _open_store(self, service: str) -> DocumentStore:
        return SimulatedStore(self.store(service))

    def kill(self, program: Program) -> None:
        """End its process here and now; a toss decides whether what is on the way still arrives."""
        if program.process is not None and program.up:
            self._bury(program.process)

    def kill_at(self, program: Program, step: int) -> None:
        """End its process right before it runs its `step`-th callback from now on."""
        if program.process is not None:
            program.process.dies_at = program.process.steps + step

    def _bury(self, process: Process) -> None:
        if process.state == "dead":
            return
        process.state, process.waiting = "dead", []
        process.requests_arrive = self.chance.happens(0.5)
        self.say(process, "dies")
        self.broker.silent(process)
        for task in sorted(asyncio.all_tasks(self.loop), key=hash):
            if getattr(task, "process", None) is process:
                dismiss(task)
                self._graveyard.append(task)

    def freeze(self, program: Program) -> None:
        """Stop a process as SIGSTOP does."""
        if program.process is not None and program.process.state == "alive":
            program.process.state = "frozen"
            self.say(program.process, "freezes")
            self.broker.silent(program.process)

    def thaw(self, program: Program) -> None:
        """Let it go on."""
        if program.process is not None and program.process.state == "frozen":
            self.say(program.process, "thaws")
            self.loop.thaw(program.process)

    # what is told

    def _told(self, process: Process, level: str, event: str, facts: dict[str, Any]) -> None:
        if event in _DEFECTS:
            self.defects.append(f"{process.incarnation} {event}: {facts}")
        if self.log is not None:
            self.say(process, f"{level} {event} {facts}")

    def say(self, process: Process | None, text: str) -> None:
        """Tell whoever follows this run."""
        if self.log is not None:
            self.log(f"{self.loop.now:10.4f} {process.incarnation if process else 'world':<14} {text}")


def _incarnation(instance: str) -> str:
    process = PROCESS.get()
    return f"{instance}:0:{process.incarnation.rpartition(':')[2] if process else 0}"


@contextlib.contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace something of a module for a while; raises AttributeError for what is not there."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


__all__ = ["OUTSIDE", "Program", "Weather", "World", "replaced"]
