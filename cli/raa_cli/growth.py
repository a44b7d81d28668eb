"""Gives topics more partitions without losing the order of any key: only when all is read and nobody works.

Producers place a key by the number of partitions, so a growing topic moves keys. What of a key is still unread in its
old partition would race with what comes into the new one. Events deferred in their aggregates are safe: others queue
behind them by aggregate, wherever they come from.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raa_cli.administration import Administration, administration
from raa_cli.execute import CommandFailed, UsageProblem
from raa_cli.output import note, print_json
from raa_cli.session import Place, owner, something_there, stack_overrides
from raa_cli.stack import Stack
from raa_runtime.bus.port import Bus, TopicPartition
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned
from raa_schemas.topics import SERVICES, TENANT_PREFIX, TOPICS

DRAIN_SECONDS: Final = 120.0
QUIET_SECONDS: Final = 1.0
ROUNDS: Final = 5
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Growth:
    """What is asked for."""

    partitions: int
    ignored: frozenset[str] = frozenset()
    drain: bool = False
    dry_run: bool = False


async def grow(place: Place, wanted: Growth, *, tools: Sequence[Path], model: str | None, as_json: bool) -> None:
    """Check that nobody works and nothing waits, grow, and say what comes next; raises CommandFailed if not."""
    if place.settings().bus == "kafka" and wanted.drain:
        raise UsageProblem(
            "--drain works off an embedded bus; on Kafka stop the clients, wait until `raa lag` shows nothing, "
            "stop the services"
        )
    await _nobody_owns(place)
    if wanted.drain and not wanted.dry_run:
        await _work_off(place, wanted, tools, model)
    async with administration(place) as admin:
        growing = _growing(await admin.bus.topics(), admin.settings, wanted.partitions)
        await _nobody_reads(admin, growing, wanted)
        waiting = await _waiting(admin, wanted.ignored)
        if waiting:
            raise CommandFailed(f"{_said(waiting)}; {_how_to_drain(place)}")
        before = await admin.bus.end_offsets(sorted(growing))
        if not wanted.dry_run:
            await admin.operations.grow(dict.fromkeys(growing, wanted.partitions))
        after = await admin.bus.end_offsets(sorted(growing))
    written = sorted({place.topic for place, end in before.items() if after.get(place, end) > end})
    _report(growing, wanted, written, as_json=as_json)


async def _nobody_owns(place: Place) -> None:
    """Refuse while a stack runs on the folder, on whichever bus; and an embedded folder nothing ever ran on."""
    if info := await owner(place.data):
        raise CommandFailed(
            f"a stack runs on {place.data} (pid {info['pid']}), and keys must not move under it; stop it, then grow"
        )
    something_there(place)


def _growing(there: Mapping[str, int], settings: ServiceSettings, partitions: int) -> dict[str, int]:
    """Name the topics that will grow, with their partitions now; raises UsageProblem where one has more already."""
    events = {name: count for name, count in there.items() if _carries_events(name, settings.deployment)}
    if not events:
        raise CommandFailed("there are no topics of events; create them with `raa topics apply`")
    larger = [name for name, count in events.items() if count > partitions]
    if larger:
        raise UsageProblem(
            f"{larger[0]} has {events[larger[0]]} partitions; partitions cannot be taken away, so name at least as many"
        )
    return {name: count for name, count in events.items() if count < partitions}


def _carries_events(name: str, deployment: str) -> bool:
    prefix = owned(deployment, "")
    if not name.startswith(prefix):
        return False
    bare = name.removeprefix(prefix)
    parts = bare.split(".", 2)
    return bare in TOPICS or (parts[0] == TENANT_PREFIX and parts[-1] in TOPICS)


async def _nobody_reads(admin: Administration, growing: Mapping[str, int], wanted: Growth) -> None:
    """Refuse while a group that reads these topics has members; whoever reads them keeps a task's order, too."""
    members = {group: number for group, number in (await admin.operations.groups()).items() if number}
    for group in sorted(members.keys() - wanted.ignored):
        if _is_ours(group, admin.settings) or await admin.bus.committed(group, sorted(growing)):
            number = members[group]
            raise CommandFailed(
                f"group {group} has {number} member{'' if number == 1 else 's'}; stop what reads, then grow "
                "(or name it with --ignore-group if the order of its records does not matter)"
            )


def _is_ours(group: str, settings: ServiceSettings) -> bool:
    return group in {owned(settings.deployment, name) for name in SERVICES}


async def _waiting(admin: Administration, ignored: frozenset[str]) -> dict[tuple[str, str], int]:
    """Count what a group has not read of a topic, for each where there is something."""
    ours = {owned(admin.settings.deployment, name) for name in SERVICES}
    groups = sorted((ours | (await admin.operations.groups()).keys()) - ignored)
    topics = [name for name in await admin.bus.topics() if _carries_events(name, admin.settings.deployment)]
    ends = await admin.bus.end_offsets(topics)
    found: dict[tuple[str, str], int] = {}
    for group in groups:
        committed = await admin.bus.committed(group, topics)
        for topic, number in _behind(_read_by(group, admin.settings, committed), ends, committed).items():
            found[group, topic] = number
    return found


def _read_by(group: str, settings: ServiceSettings, committed: Mapping[TopicPartition, int]) -> set[str]:
    service = group.removeprefix(owned(settings.deployment, ""))
    declared = {owned(settings.deployment, topic.name) for topic in TOPICS.values() if service in topic.readers}
    return declared | {place.topic for place in committed}


def _behind(
    topics: set[str], ends: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, end in ends.items():
        if place.topic in topics and (missing := end - committed.get(place, 0)) > 0:
            found[place.topic] = found.get(place.topic, 0) + missing
    return found


def _said(waiting: Mapping[tuple[str, str], int]) -> str:
    (group, topic), number = max(waiting.items(), key=lambda item: item[1])
    more = f" (and {len(waiting) - 1} more, see `raa lag`)" if len(waiting) > 1 else ""
    return f"{group} has {number} unread records in {topic}{more}"


def _how_to_drain(place: Place) -> str:
    if place.settings().bus == "kafka":
        return "start the services without clients until `raa lag` shows nothing, stop them, and grow again"
    return "grow with --drain and the --tools and --model of `raa up`, which works them off first"


# --- drain on an embedded bus ----------------------------------------------------------------------------------------


async def _work_off(place: Place, wanted: Growth, tools: Sequence[Path], model: str | None) -> None:
    """Run a stack until nothing waits; stopping it may publish a little more, hence several rounds."""
    for _ in range(ROUNDS):
        async with administration(place) as admin:
            if not await _waiting(admin, wanted.ignored):
                return
        note("working off what waits")
        overrides = stack_overrides(place.data, tools=tools, model=model)
        async with Stack(place.data, bus=place.bus, **overrides) as stack:
            await stack.ready()
            await _until_quiet(stack.bus, place.settings(), wanted)


async def _until_quiet(bus: Bus, settings: ServiceSettings, wanted: Growth) -> None:
    from raa_runtime.bus.embedded import EmbeddedBus

    if not isinstance(bus, EmbeddedBus):
        raise UsageProblem("--drain works off an embedded bus only")
    admin = Administration(settings, bus, bus)
    with suppress(TimeoutError):  # what is left then is told by the check that follows
        async with asyncio.timeout(DRAIN_SECONDS):
            quiet = 0.0
            while quiet < QUIET_SECONDS:
                quiet = 0.0 if await _waiting(admin, wanted.ignored) else quiet + _LOOK_SECONDS
                await asyncio.sleep(_LOOK_SECONDS)


# --- what is said ----------------------------------------------------------------------------------------------------


def _report(growing: Mapping[str, int], wanted: Growth, written: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        grown = {name: {"before": count, "after": wanted.partitions} for name, count in sorted(growing.items())}
        print_json({"grown": grown, "dry_run": wanted.dry_run, "written_meanwhile": written})
        return
    if not growing:
        print(f"all topics of events have {wanted.partitions} partitions")
        return
    before = sorted(set(growing.values()))
    had = f"{before[0]}" if len(before) == 1 else f"{before[0]} to {before[-1]}"
    if wanted.dry_run:
        print(f"nothing forbids it: {len(growing)} topics would get {wanted.partitions} partitions ({had} now)")
        return
    print(f"{len(growing)} topics have {wanted.partitions} partitions now ({had} before)")
    if written:
        print(f"somebody wrote meanwhile to {', '.join(written)}: the order of those keys is not certain")
    print(
        f"set RAA_KAFKA_PARTITIONS={wanted.partitions} for topics that come later, and start services and clients again"
    )
