"""Looks at what is configured, what answers and what is missing, and names the command that mends it."""

import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Final, Literal

from raa_cli.dlq.lists import causes, filed
from raa_cli.dlq.scan import Wanted
from raa_cli.execute import FAILED
from raa_cli.output import print_json, print_rows
from raa_cli.session import MODELS_FILE, Place, configured_url, owner
from raa_cli.stack import PARTS
from raa_cli.web import ask
from raa_client.connect import open_bus
from raa_runtime.durability import weaknesses
from raa_runtime.errors import RaaError
from raa_runtime.platform import open_store
from raa_runtime.remembrance import contradictions, too_short_for_blobs
from raa_runtime.settings import ServiceSettings
from raa_runtime.topics import topic_specs
from raa_schemas.topics import TOPICS

LOW_DISK_BYTES: Final = 1024**3
PING_SECONDS: Final = 3.0
Health = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `mend` is a command, empty when nothing is to be done."""

    what: str
    health: Health
    found: str
    mend: str = ""


async def doctor(place: Place, *, as_json: bool) -> int:
    """Print the findings; 1 if anything needed is missing."""
    findings = [finding async for finding in _examine(place)]
    missing = [finding for finding in findings if finding.health == "missing"]
    if as_json:
        print_json({"healthy": not missing, "findings": [asdict(finding) for finding in findings]})
    else:
        print_rows([[finding.what, finding.health, finding.found] for finding in findings], ["what", "", "found"])
        for finding in findings:
            if finding.mend:
                print(f"{finding.what}: {finding.mend}")
    return FAILED if missing else 0


async def _examine(place: Place) -> AsyncIterator[Finding]:
    yield _python()
    try:
        settings = place.settings()
    except RaaError as problem:
        yield Finding("settings", "missing", str(problem), "unset or correct the variable")
        return
    yield Finding("settings", "ok", _configured(settings))
    yield _disk(place)
    if settings.bus == "embedded":
        yield await _stack(place)
    else:
        async for finding in _kafka(place, settings):
            yield finding
    if settings.store == "mongo":
        yield await _store(settings)
    if settings.redis_url is not None:
        yield await _cache(settings)
    yield _inequality(settings)
    if settings.bus == "kafka" or (place.data / "raa.lock").is_file():
        yield await _dead_letters(place)
    yield _models(place)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version}, SQLite {sqlite3.sqlite_version}")


def _configured(settings: ServiceSettings) -> str:
    blobs = settings.blobs_url or f"{settings.data}/blobs"
    name = f", deployment {settings.deployment}" if settings.deployment else ""
    return f"bus {settings.bus}, store {settings.store}, blobs {blobs}{name}"


def _disk(place: Place) -> Finding:
    there = next(folder for folder in [place.data.absolute(), *place.data.absolute().parents] if folder.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return Finding("data folder", "missing", f"{there} cannot be written", "name another with --data or RAA_DATA")
    if free < LOW_DISK_BYTES:
        return Finding(
            "data folder",
            "note",
            f"{place.data}, {free // 1024**2} MB left",
            "make room: services pause when the disk is full, and go on when there is space",
        )
    return Finding("data folder", "ok", f"{place.data}, {free // 1024**3} GB left")


async def _stack(place: Place) -> Finding:
    info = await owner(place.data)
    if info is None:
        return Finding(
            "stack", "note", f"none runs on {place.data}; `raa run` starts its own", f"raa up --data {place.data}"
        )
    if info["missing"]:
        parts = "; ".join(f"{name}: {missing}" for name, missing in info["missing"].items())
        return Finding("stack", "missing", f"pid {info['pid']} is not ready: {parts}", "see its log on standard error")
    return Finding("stack", "ok", f"pid {info['pid']} runs {', '.join(sorted(info['urls']))}")


async def _kafka(place: Place, settings: ServiceSettings) -> AsyncIterator[Finding]:
    bus = open_bus(settings)
    try:
        await bus.start()
    except RaaError as problem:
        yield Finding("kafka", "missing", str(problem), "start it (services wait for it), or set RAA_KAFKA_BOOTSTRAP")
        return
    try:
        there = await bus.topics()
        yield Finding("kafka", "ok", f"{settings.kafka_bootstrap} answers")
        lacking = [spec.name for spec in topic_specs(settings) if spec.name not in there]
        yield (
            Finding(
                "topics",
                "missing",
                f"{len(lacking)} are missing: {', '.join(lacking[:4])}",
                "raa topics apply --bus kafka",
            )
            if lacking
            else Finding("topics", "ok", f"all {len(TOPICS)} are there")
        )
        for weakness in await weaknesses(bus, topics=[spec.name for spec in topic_specs(settings)]):
            yield Finding("durability", "note", weakness)
    finally:
        await bus.stop()
    if await owner(place.data):
        yield await _stack(place)
        return
    for part in PARTS:
        yield await _service(part.name)


async def _service(name: str) -> Finding:
    try:
        url = configured_url(name)
    except AttributeError:
        return Finding(name, "note", "nobody asks it over HTTP, so no address is configured")
    return await _answers(
        name, f"{url}", lambda: ask(url, "/readyz", seconds=PING_SECONDS), f"raa up --bus kafka --services {name}"
    )


async def _store(settings: ServiceSettings) -> Finding:
    store = open_store(settings, "doctor")
    return await _answers("mongodb", "answers", store.ping, "start it (services wait), or set RAA_MONGO_URL")


async def _cache(settings: ServiceSettings) -> Finding:
    from raa_runtime.platform import open_kv

    kv = open_kv(settings)
    try:
        return await _answers("redis", "answers", kv.ping, "start it, or unset RAA_REDIS_URL")
    finally:
        await kv.close()


async def _answers(what: str, found: str, asked: Callable[[], Awaitable[object]], mend: str) -> Finding:
    try:
        await asked()
    except RaaError as problem:
        return Finding(what, "missing", str(problem), mend)
    return Finding(what, "ok", found)


def _inequality(settings: ServiceSettings) -> Finding:
    """Compare what must outlive what, so that nothing is repeated or lost."""
    from raa_planner.settings import PlannerSettings

    found = contradictions(settings)
    blobs = too_short_for_blobs(PlannerSettings.from_env(os.environ).blob_seconds)
    if found or blobs:
        told = "; ".join([*found, *([blobs] if blobs else [])])
        return Finding("horizon", "missing", told, "no service starts before that is so")
    horizon, kept = settings.horizon_seconds / 86_400, settings.tombstone_seconds / 86_400
    return Finding(
        "horizon", "ok", f"{horizon:g} days: no longer than topics keep records; what ended is remembered {kept:g} days"
    )


async def _dead_letters(place: Place) -> Finding:
    try:
        async with filed(place, Wanted(only_open=True)) as found:
            waiting = await causes(found)
    except RaaError as problem:
        return Finding("dead letters", "note", f"cannot be read: {problem}")
    if not waiting:
        return Finding("dead letters", "ok", "none waits for a decision")
    count = sum(cause.count for cause in waiting)
    groups = ", ".join(sorted({cause.group for cause in waiting}))
    return Finding(
        "dead letters",
        "note",
        f"{count} wait for a decision, of {len(waiting)} causes in {groups}",
        "raa dlq ls --open",
    )


def _models(place: Place) -> Finding:
    named = [name for name in ("RAA_MODELS", "RAA_OPENAI_BASE_URL", "OPENAI_BASE_URL") if os.environ.get(name)]
    if (place.data / MODELS_FILE).is_file():
        named.append(str(place.data / MODELS_FILE))
    if named:
        return Finding("models", "ok", f"configured by {', '.join(named)}; `raa model test` asks one")
    return Finding(
        "models",
        "note",
        "only the offline model, which knows tables, arithmetic and tools by name",
        "raa model add NAME --url http://…/v1, or set OPENAI_BASE_URL and OPENAI_API_KEY",
    )
