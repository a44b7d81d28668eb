"""Many units at once: those that start in one tick are loaded, decided, stored and published together.

What one unit pays for a task, its futures and three waits, a convoy pays once. Only the plain road is taken: whatever
is not plain (a duplicate, a refusal, a failure, a lost race, an unknown reply) leaves the convoy, and its own lane runs
it from the start, as if nothing had happened; what had happened is found in the store.

The events of a unit lie, keyed alike, on partitions of one number. One whose leader is away holds the others back for a
second, once: its units then leave, and for half a minute it has convoys of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from raa_runtime.guard import outcome_of, result_of
from raa_runtime.scope import scope_of
from raa_runtime.state.aggregate import Aggregate, Entry
from raa_runtime.state.port import Document, Write
from raa_runtime.unit import Received, Unit
from raa_runtime.unit_of_work import BUS_PATIENCE_SECONDS, Address, Cause, Decide, UnitOfWork, message_of


@dataclass(slots=True)
class Job:
    """One unit to run: as the arguments of `UnitOfWork.run`."""

    at: Address
    decide: Decide
    cause: Cause
    event: Received[Any] | None = None
    header_only: bool = False


@dataclass(slots=True)
class _Rider:
    number: int
    unit: Unit[Any]
    gone: list[str]
    write: Write


async def run_together(work: UnitOfWork, jobs: Sequence[Job]) -> list[Unit[Any] | None]:
    """Run what is plain among these units of different aggregates; None for each that has to run by itself.

    A unit that is given back is stored and its outbox published, as after `UnitOfWork.run`.
    """
    riders = _decided(work, jobs, await _opened(work, jobs))
    stored = await _stored(work, riders)
    arrived = await _published(work, stored)
    units: list[Unit[Any] | None] = [None] * len(jobs)
    for rider in arrived:
        work.keep(rider.unit, len(rider.write.encoded))
        units[rider.number] = rider.unit
    return units


async def _opened(work: UnitOfWork, jobs: Sequence[Job]) -> list[tuple[Unit[Any], list[str]] | None]:
    opened: list[tuple[Unit[Any], list[str]] | None] = [None] * len(jobs)
    missing: dict[str, list[int]] = {}
    for number, job in enumerate(jobs):
        known = work.cache.take(job.at.kind.name, job.at.id)
        if known is None:
            missing.setdefault(job.at.kind.name, []).append(number)
        else:
            opened[number] = work.unit_of(job.at, known.aggregate, known.gone)
    for kind, numbers in missing.items():
        wanted = [(scope_of(jobs[number].at.id), jobs[number].at.id) for number in numbers]
        documents = await outcome_of(work.store.find_many, kind, wanted)
        if isinstance(documents, Exception):
            continue
        for number, document in zip(numbers, documents, strict=True):
            opened[number] = _read(work, jobs[number], document)
    return opened


def _read(work: UnitOfWork, job: Job, document: Document | None) -> tuple[Unit[Any], list[str]] | None:
    opened = result_of(work.read, job.at, document)
    return None if isinstance(opened, Exception) else opened


def _decided(
    work: UnitOfWork, jobs: Sequence[Job], opened: Sequence[tuple[Unit[Any], list[str]] | None]
) -> list[_Rider]:
    riders = []
    for number, (job, found) in enumerate(zip(jobs, opened, strict=True)):
        if found is None:
            continue
        unit, gone = found
        write = result_of(_decide, work, job, unit)
        if isinstance(write, Write):
            riders.append(_Rider(number, unit, gone, write))
    return riders


def _decide(work: UnitOfWork, job: Job, unit: Unit[Any]) -> Write | None:
    if _is_known(unit.aggregate, job.event) or (unit.aggregate.unreadable and not job.header_only):
        return None
    work.begin(unit, job.event)
    job.decide(unit)
    return work.prepare(unit, job.cause, job.event) if unit.ignored is None else None


def _is_known(aggregate: Aggregate[Any], event: Received[Any] | None) -> bool:
    return event is not None and any(seen == event.id for seen, _ in aggregate.seen)


async def _stored(work: UnitOfWork, riders: Sequence[_Rider]) -> list[_Rider]:
    outcomes = await work.commit_all([(rider.unit, rider.gone, rider.write) for rider in riders])
    stored = [rider for rider, outcome in zip(riders, outcomes, strict=True) if outcome == "stored"]
    return [rider for rider in stored if not isinstance(result_of(work.after, rider.unit, rider.gone), Exception)]


async def _published(work: UnitOfWork, riders: Sequence[_Rider]) -> Sequence[_Rider]:
    waiting: list[tuple[_Rider, Entry]] = [
        (rider, entry)
        for rider in riders
        for entry in rider.unit.aggregate.outbox
        if entry.event_id not in work.published
    ]
    if not waiting:
        return riders
    messages = [message_of(entry) for _, entry in waiting]
    if len({rider.unit.aggregate.partition for rider, _ in waiting}) == 1:  # nobody waits for a stranger
        verdicts = await outcome_of(work.patiently, work.bus.publish, messages)
    else:
        verdicts = await outcome_of(partial(work.bus.publish, messages, patience=BUS_PATIENCE_SECONDS))
    if isinstance(verdicts, Exception):
        verdicts = [verdicts] * len(waiting)
    failed: set[int] = set()
    for (rider, entry), verdict in zip(waiting, verdicts, strict=True):
        if verdict is not None:
            failed.add(rider.number)
            work.late.note(rider.unit.aggregate.partition)
        elif rider.number not in failed:
            work.published.add(entry.event_id)
    return [rider for rider in riders if rider.number not in failed] if failed else riders
