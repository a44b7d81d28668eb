"""Shows what waits where: behind each group's offsets on the bus, and inside the services."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from raa_cli.administration import Administration, administration
from raa_cli.execute import UsageProblem
from raa_cli.gauges import Gauges, gauges_of, reached
from raa_cli.output import print_json, print_rows
from raa_cli.session import Place
from raa_runtime.bus.port import TopicPartition
from raa_schemas.ids import owned
from raa_schemas.topics import SERVICES, TOPICS

UNKNOWN: Final = "?"
_CLEAR: Final = "\x1b[2J\x1b[H"


@dataclass(frozen=True)
class Row:
    """One group on one partition. None: nobody who knows could be asked, or (oldest) there is nothing."""

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    in_flight: int | None
    deferred: int | None
    oldest_seconds: float | None


@dataclass(frozen=True)
class Situation:
    """All of it, at one moment."""

    at: datetime
    rows: list[Row]
    members: Mapping[str, int]
    gauges: Sequence[Gauges]

    def to_json(self) -> dict[str, Any]:
        """Write it as one JSON object."""
        return {
            "at": self.at.isoformat(),
            "partitions": [asdict(row) for row in self.rows],
            "members": dict(self.members),
            "planner": {
                "queue_depth": _total(self.gauges, "planner", "raa_planner_queue_depth_tasks"),
                "queue_oldest_seconds": _most(self.gauges, "planner", "raa_planner_queue_oldest_seconds"),
            },
            "executor": {
                "steps_ready": _total(self.gauges, "executor", "raa_executor_steps_ready"),
                "steps_running": _total(self.gauges, "executor", "raa_executor_steps_running"),
            },
            "asked": [
                {"url": one.url, "service": one.service, "instance": one.instance, "problem": one.problem}
                for one in self.gauges
            ],
        }


async def lag(
    place: Place,
    groups: Sequence[str],
    at: Sequence[str],
    *,
    everything: bool,
    watch_seconds: float | None,
    as_json: bool,
    terminal: bool,
) -> None:
    """Print the situation once, or again every few seconds until Ctrl-C."""
    async with administration(place) as admin:
        while True:
            now = await situation(admin, groups, at)
            if as_json:
                print_json(now.to_json())
            else:
                print(_CLEAR if watch_seconds and terminal else "", end="")
                print_situation(now, everything=everything)
            if watch_seconds is None:
                return
            await asyncio.sleep(watch_seconds)


async def situation(admin: Administration, groups: Sequence[str], at: Sequence[str]) -> Situation:
    """Ask the bus and the services."""
    members = await admin.operations.groups()
    wanted = _groups(admin, groups, members)
    gauges = await gauges_of(admin.urls, admin.settings, at)
    rows = [row for group in wanted for row in await _rows(admin, group, members.get(group, 0), gauges)]
    return Situation(datetime.now(UTC), rows, {group: members.get(group, 0) for group in wanted}, gauges)


def _groups(admin: Administration, asked: Sequence[str], members: Mapping[str, int]) -> list[str]:
    """Name the services' groups, then others that read this deployment's topics; or those asked for."""
    ours = [owned(admin.settings.deployment, name) for name in SERVICES if _reads(name)]
    if not asked:
        return [*ours, *sorted(name for name in members if name not in ours)]
    named = [owned(admin.settings.deployment, name) if name in SERVICES else name for name in asked]
    if unknown := [name for name in named if name not in {*ours, *members}]:
        raise UsageProblem(f"there is no group {unknown[0]!r}; there are {', '.join(dict.fromkeys([*ours, *members]))}")
    return named


def _reads(service: str) -> bool:
    return any(service in topic.readers for topic in TOPICS.values())


async def _rows(admin: Administration, group: str, members: int, gauges: Sequence[Gauges]) -> list[Row]:
    service = group.removeprefix(owned(admin.settings.deployment, ""))
    declared = {owned(admin.settings.deployment, one.name) for one in TOPICS.values() if service in one.readers}
    committed = await admin.bus.committed(group, await _own_topics(admin))
    ends = await admin.bus.end_offsets(sorted(declared | {place.topic for place in committed}))
    behind = {place: committed.get(place, 0) for place, end in ends.items() if committed.get(place, 0) < end}
    times = await admin.operations.times(behind)
    told = _Told(service, members, [one for one in gauges if one.service == service and one.problem is None])
    now = datetime.now(UTC)

    def row(place: TopicPartition) -> Row:
        since = times.get(place)
        return Row(
            group,
            place.topic,
            place.partition,
            committed.get(place),
            ends[place],
            ends[place] - committed.get(place, 0) if place in behind else 0,
            told.in_flight(place),
            told.deferred(place),
            max(0.0, round((now - since).total_seconds(), 3)) if since else None,
        )

    return [row(place) for place in sorted(ends)]


async def _own_topics(admin: Administration) -> list[str]:
    prefix = owned(admin.settings.deployment, "")
    return [name for name in await admin.bus.topics() if name.startswith(prefix)]


@dataclass(frozen=True)
class _Told:
    """What the instances of one service that answered say of its partitions."""

    service: str
    members: int
    gauges: Sequence[Gauges]

    def in_flight(self, place: TopicPartition) -> int | None:
        """Sum it; whoever holds the partition must be among them, or nobody may be a member."""
        found = self._values("in_flight", place)
        return int(sum(found)) if found or not self.members else None

    def deferred(self, place: TopicPartition) -> int | None:
        """Sum it; anyone may have some, so all members must have answered."""
        complete = 0 < self.members <= len(self.gauges)
        return int(sum(self._values("deferred", place))) if complete else None

    def _values(self, what: str, place: TopicPartition) -> list[float]:
        labels = {"topic": place.topic, "partition": str(place.partition)}
        found = [one.value(f"raa_{self.service}_partition_{what}_records", labels) for one in self.gauges]
        return [value for value in found if value is not None]


def _values(gauges: Sequence[Gauges], service: str, name: str) -> list[float]:
    found = [one.value(name, {}) for one in gauges if one.service == service]
    return [value for value in found if value is not None]


def _total(gauges: Sequence[Gauges], service: str, name: str) -> int | None:
    values = _values(gauges, service, name)
    return int(sum(values)) if values else None


def _most(gauges: Sequence[Gauges], service: str, name: str) -> float | None:
    return max(_values(gauges, service, name), default=None)


# --- for people ------------------------------------------------------------------------------------------------------


def print_situation(now: Situation, *, everything: bool) -> None:
    """Print what waits, and what could not be asked."""
    shown = [row for row in now.rows if everything or row.lag or row.in_flight or row.deferred]
    if shown:
        head = ["group", "topic", "partition", "lag", "committed", "end", "in flight", "deferred", "oldest"]
        print_rows([_cells(row) for row in shown], head)
    if quiet := len(now.rows) - len(shown):
        print(f"{quiet} partitions are worked off{'' if everything else '; --all shows them'}")
    for line in _inside(now):
        print(line)


def _cells(row: Row) -> list[str]:
    numbers = [row.committed, row.end, row.in_flight, row.deferred]
    shown = [UNKNOWN if number is None else str(number) for number in numbers]
    shown[0] = "-" if row.committed is None else shown[0]
    oldest = "" if row.oldest_seconds is None else duration(row.oldest_seconds)
    return [row.group, row.topic, str(row.partition), str(row.lag), *shown, oldest]


def duration(seconds: float) -> str:
    """Write a duration in the largest unit that leaves at least two of it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def _inside(now: Situation) -> Iterator[str]:
    told = now.to_json()
    depth, oldest = told["planner"]["queue_depth"], told["planner"]["queue_oldest_seconds"]
    if depth is not None:
        yield f"planner: {depth} tasks wait for their turn{f', the oldest {duration(oldest)}' if depth else ''}"
    ready, at_work = told["executor"]["steps_ready"], told["executor"]["steps_running"]
    if ready is not None:
        yield f"executor: {ready} steps ready, {at_work} running"
    if idle := [group for group, members in now.members.items() if not members]:
        yield f"no member reads for {', '.join(idle)}"
    for one in now.gauges:
        if one.problem:
            yield f"not reached: {one.service or 'a service'} at {one.url}: {one.problem}"
    if unknown := sorted({row.group for row in now.rows if row.in_flight is None or row.deferred is None}):
        yield f"{UNKNOWN}: not all members of {', '.join(unknown)} were asked; {reached(now.gauges)}"
