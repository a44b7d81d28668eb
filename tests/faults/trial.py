"""One fault run: a deployment with the ledger tools, the load on it, and the verdict at its end."""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from raa_client.operator import Operator, operator_of
from raa_runtime.keys import public_text
from raa_schemas.ids import owned
from tests.backends.process import LOOPBACK, Server, answers, free_port, serve
from tests.e2e.house import House, all_in_one, apart
from tests.faults.evidence import Call, Seen
from tests.faults.gather import records_of, unwatched
from tests.faults.history import Verdict, judge
from tests.faults.load import EXTERNAL, Load, read_ledger

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
_SETTLE_SECONDS: Final = 15.0
_COMES_UP: Final = 0.75
_UNREPEATABLE: Final = frozenset({"once", "checkable"})


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that was ended as by a power cut, and when."""

    at: float
    name: str


@dataclass
class Trial:
    """A house that offers the ledger tools, and the far side they talk to; `operator` is a person safety knows."""

    house: House
    folder: Path
    ledger: Path
    operator: Operator
    tenant: str = "default"
    kills: list[Kill] = field(default_factory=list)

    def of_tenant(self, tenant: str) -> "Trial":
        """Give a trial of its own on the same house: it loads and judges one tenant."""
        return replace(self, tenant=tenant, kills=[])

    def load(self) -> Load:
        """Give a client's side."""
        return Load(self.house.settings, self.ledger, self.operator, self.tenant)

    @property
    def stores(self) -> list[Path]:
        """Name the folders in which services may keep SQLite files."""
        names = [name for name in self.house.processes if name != "raa"]
        return [self.house.folder / name for name in names] or [self.house.settings.data]

    def kill(self, *names: str) -> None:
        """End processes as a power cut would, and note when."""
        now = time.time()
        self.house.kill(*names)
        self.kills += [Kill(now, name) for name in names]

    async def kill_at_random(self, chance: random.Random, names: Sequence[str], every: tuple[float, float]) -> None:
        """End a random process every few seconds and start it again, until cancelled; all run when it returns.

        One time in four the next one dies while this one may still be starting; else it gets that far, so that also a
        slow machine makes progress.
        """
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(chance.uniform(*every))
                name = chance.choice(names)
                self.kill(name)
                await asyncio.sleep(chance.uniform(0, 0.3))
                self.house.launch(name)
                if chance.random() < _COMES_UP:
                    await asyncio.to_thread(self.house.wait, name)
        down = [name for name in names if self.house.processes[name].process.poll() is not None]
        self.house.launch(*down) if down else None

    async def revive(self) -> None:
        """Start again whatever ended by itself, as a supervisor would, until cancelled."""
        while True:
            for name, server in list(self.house.processes.items()):
                if server.process.poll() is not None:
                    self.kills.append(Kill(time.time(), name))
                    self.house.launch(name)
            await asyncio.sleep(0.1)

    def relaunch_without(self, variable: str) -> None:
        """Let every later start of a process go without a variable."""
        for name in list(self.house._commands):
            command, environment = self.house.command_of(name)
            environment.pop(variable, None)
            self.house.define(name, command, environment)

    async def verdict(self) -> Verdict:
        """Judge the run: from the topics and the ledger, and from the stores once they have come to rest."""
        found = judge(await self.records(), self.calls(), deployment=self.house.settings.deployment)
        return Verdict(found.violations + await self._unwatched(), found.figures)

    async def records(self) -> list[Seen]:
        """Read what all topics hold of this tenant, and of nobody."""
        mine = {self.tenant, ""}
        return [one for one in await self.all_records() if one.headers.get("ce_tenant", "") in mine]

    async def all_records(self) -> list[Seen]:
        """Read what all topics hold."""
        return await records_of(self.house.settings)

    def calls(self) -> list[Call]:
        """Read this tenant's part of the ledger."""
        return [call for call in read_ledger(self.ledger) if call.tenant == self.tenant]

    async def _unwatched(self) -> list[str]:
        """Ask again for some seconds: an aggregate may be in the middle of its last write."""
        end = time.monotonic() + _SETTLE_SECONDS
        while (found := unwatched(self.house.settings, self.stores)) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        return found

    def recoveries(self, records: Sequence[Seen]) -> list[float]:
        """Give, per kill under load, the seconds until a service of the killed process told something again."""
        waits = []
        for kill in self.kills:
            source = "raa/" if kill.name == "raa" else f"raa/{kill.name.rpartition('-')[0]}"
            later = [one.timestamp for one in records if one.timestamp > kill.at and _source(one).startswith(source)]
            waits += [min(later) - kill.at] if later else []
        return waits

    def inside_the_window(self, records: Sequence[Seen]) -> int:
        """Count the unrepeatable actions that were released and not settled when an executor was killed."""
        spans = _spans(records, owned(self.house.settings.deployment, ""))
        deaths = [kill.at for kill in self.kills if kill.name == "raa" or kill.name.startswith("executor")]
        return sum(begun <= death <= ended for begun, ended in spans for death in deaths)


def _source(record: Seen) -> str:
    return record.headers.get("ce_source", "")


def _spans(records: Sequence[Seen], prefix: str) -> list[tuple[float, float]]:
    """Give when each unrepeatable step was released and when it settled."""
    times: dict[str, dict[tuple[str, str], float]] = {"step.ready": {}, "step.finished": {}}
    unrepeatable = set()
    for record in records:
        first = times.get(record.topic.removeprefix(prefix))
        if first is None:
            continue
        body = json.loads(record.value or b"{}")
        place = record.headers["ce_subject"], f"v{body['plan_version']}/{body['step']}"
        first[place] = min(record.timestamp, first.get(place, record.timestamp))
        if body.get("effect") in _UNREPEATABLE:
            unrepeatable.add(place)
    ended = times["step.finished"]
    return [(at, ended[place]) for place, at in times["step.ready"].items() if place in unrepeatable]


async def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Return as soon as the condition holds; raises AssertionError if it does not in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"still not so after {seconds:g} s"
        await asyncio.sleep(0.05)


def p95(values: Sequence[float]) -> float:
    """Give the 95th percentile by nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)] if ordered else 0.0


@contextlib.contextmanager
def far_side(folder: Path, port: int | None = None) -> Iterator[tuple[Server, Path]]:
    """Run the tool server on a ledger in `folder`."""
    port, ledger = port or free_port(), folder / "ledger.jsonl"
    command = [sys.executable, str(HERE / "tool_server.py"), str(port), str(ledger)]
    address = f"http://{LOOPBACK}:{port}"
    with serve(command, address=address, folder=folder / "far-side", ready=lambda: answers(port)) as server:
        yield server, ledger


def _through_launcher(house: House) -> None:
    """Start every process by the launcher, which shortens what would make a test wait for a minute."""
    for name in list(house._commands):
        (python, _, *rest), environment = house.command_of(name)
        house.define(name, [python, str(HERE / "failpoints.py"), *rest], environment)


def _common(folder: Path, server: Server, operator: Operator) -> dict[str, str]:
    """Give the settings every house of a trial needs, without RAA_: the tools, and a policy under which they run."""
    marks, policy = folder / "marks", folder / "policy.json"
    marks.mkdir(parents=True, exist_ok=True)
    policy.write_text(json.dumps({"default": {"allow_tools": sorted(EXTERNAL)}}))
    return {
        "tools": str(HERE / "tools.py"),
        "policy": str(policy),
        "approver_keys": f"{operator.key_id}={public_text(operator.key.public_key())}",
        "test_ledger": server.address,
        "test_marks": str(marks),
        "test_tool_seconds": "4",
        "tool_slots": "64",
        "test_short_preparation": "3",
        "test_short_grace": "1",
        "cache_bytes": "1000000",  # full within minutes, so that a soak sees leaks and not caches that fill up
    }


@contextlib.contextmanager
def together(folder: Path, **environment: str) -> Iterator[Trial]:
    """Describe all services in one process, embedded bus and SQLite; the caller starts the house, this stops it."""
    with far_side(folder) as (server, ledger):
        operator = operator_of(folder)
        data = folder / "data"
        house = all_in_one(data, folder / "logs", **(_common(folder, server, operator) | environment))
        _through_launcher(house)
        with stopping(house):
            yield Trial(house, folder, ledger, operator)


@contextlib.contextmanager
def separate(
    folder: Path,
    *,
    deployment: str,
    kafka: str,
    mongo: str = "",
    redis_url: str = "",
    instances: Mapping[str, int] | None = None,
    **environment: str,
) -> Iterator[Trial]:
    """Describe each service in a process of its own on Kafka, with MongoDB and Redis, or without both on SQLite."""
    with far_side(folder) as (server, ledger):
        operator = operator_of(folder)
        given = _common(folder, server, operator) | environment
        extra = {f"RAA_{name.upper()}": value for name, value in given.items()}
        if not mongo:  # nobody can share a file
            extra |= {"RAA_STORE": "sqlite"}
            instances = {"executor": 1}
        house = apart(
            folder,
            kafka=kafka,
            mongo=mongo,
            redis_url=redis_url,
            deployment=deployment,
            instances=instances,
            extra=extra,
        )
        _through_launcher(house)
        with stopping(house):
            yield Trial(house, folder, ledger, operator)


@contextlib.contextmanager
def stopping(house: House) -> Iterator[None]:
    """Stop a house at the end of the block, whatever became of it."""
    try:
        yield
    finally:
        house.stop()


@contextlib.asynccontextmanager
async def meanwhile(work: "asyncio.Task[None]") -> AsyncIterator[None]:
    """Let a task run beside the block, and end it with the block."""
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
