"""Judges a finished run from its records and a fake tool server's ledger alone.

Written apart from what it judges: the standard library only. Each rule below says in one sentence what it forbids and
yields one sentence per breach; `tests/faults/README.md` lists the figures.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from tests.faults.evidence import Call, History, Seen, StepKey, TaskKey, Told, grouped, read

__all__ = ["Call", "Seen", "Verdict", "judge"]

_FROM_CLIENTS: Final = frozenset({"task.created", "cancel.requested", "approval.decided"})
_PARKED: Final = frozenset({"waiting_approval", "stalled", "admitted"})
_UNREPEATABLE: Final = frozenset({"once", "checkable"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run broke, in sentences, and what it did, in numbers."""

    violations: list[str]
    figures: dict[str, int | float]


def judge(records: Sequence[Seen], calls: Sequence[Call], *, deployment: str = "") -> Verdict:
    """Judge a run that came to rest; neither the order of `records` nor that of `calls` matters."""
    history = History(read(records, deployment), sorted(calls, key=lambda call: call.at))
    violations = [broken for rule in RULES for broken in rule(history)]
    return Verdict(violations, _figures(history))


def every_task_ends_once(history: History) -> Iterator[str]:
    """One task.done id per accepted task; a task that waits for somebody says for what and until when."""
    ends, submitted = history.by_task("task.done"), history.by_task("task.created")
    waiting = _waiting(history)
    for task in history.accepted:
        if task not in ends and task not in waiting:
            yield f"lost: {_name(task)} has no task.done and waits for nobody"
    for task, events in ends.items():
        if len(events) > 1:
            yield f"ended twice: {_name(task)} has {len(events)} different task.done: {[event.id for event in events]}"
        # a refused record whose headers nobody can read is rejected under a name that only its place gives it
        unreadable = history.read.refused and events[0].body.get("outcome") == "rejected"
        if task not in submitted and not unreadable:
            yield f"out of nothing: {_name(task)} ended and was never submitted"


def no_id_says_two_things(history: History) -> Iterator[str]:
    """An event id has one content; what clients write under one id twice is their own affair."""
    contents: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for event in history.read.events:
        if event.type not in _FROM_CLIENTS:
            contents[event.type, event.id].add((event.task, event.digest))
    for (event_type, event_id), different in contents.items():
        if len(different) > 1:
            yield f"one id, {len(different)} contents: {event_type} {event_id}"


def steps_are_numbered_without_gaps(history: History) -> Iterator[str]:
    """The step.done of a plan version carry run_seq 1, 2, 3, each step settles once, and only the last is terminal."""
    runs = grouped(history.of("step.done"), lambda event: event.step[:3])
    for (tenant, task, version), events in runs.items():
        where = f"{tenant}/{task} v{version}"
        numbers = [event.body.get("run_seq") for event in events]
        if numbers != list(range(1, len(events) + 1)):
            yield f"out of order: {where} has run_seq {numbers}"
        for step, count in Counter(event.step[3] for event in events).items():
            if count > 1:
                yield f"settled twice: {where}/{step} has {count} different step.done"
        if any(event.body.get("run_status", "running") != "running" for event in events[:-1]):
            yield f"went on: {where} has a step.done after its terminal one"


def a_status_never_goes_back(history: History) -> Iterator[str]:
    """Attempt and, within it, steps done only grow from one task.status to the next."""
    for task, events in history.by_task("task.status").items():
        progress = [(event.body.get("attempt", 0), event.body.get("steps_done", 0)) for event in events]
        for earlier, later in pairwise(progress):
            if later < earlier:
                yield f"went back: task.status of {_name(task)} from {earlier} to {later}"


def a_step_is_started_before_it_is_done(history: History) -> Iterator[str]:
    """A step that was tried has a step.started, told no later than its step.done."""
    started = grouped(history.of("step.started"), lambda event: event.step)
    for event in history.of("step.done"):
        if not event.body.get("attempt") or event.body.get("outcome") not in {"succeeded", "failed"}:
            continue
        starts = started.get(event.step)
        if not starts:
            yield f"never started: {_path(event.step)} is done"
        elif starts[0].at > event.at:
            yield f"started late: {_path(event.step)} was done before its step.started"


def an_end_is_the_end(history: History) -> Iterator[str]:
    """After its task.done a task is neither planned nor running; what had succeeded starts no step."""
    ends = {task: events[0] for task, events in history.by_task("task.done").items()}
    for event in history.of("task.status", "plan.proposed", "step.started"):
        end = ends.get(event.aggregate)
        if end is None or event.at <= end.at or event.body.get("state") == "ended":
            continue
        if event.type != "step.started" or end.body.get("outcome") == "succeeded":
            yield f"after the end: {event.type} {event.id} of {_name(event.aggregate)}"


def nothing_comes_from_a_fenced_epoch(history: History) -> Iterator[str]:
    """Once an epoch of a step was told, a lower one does not tell another outcome."""
    told = grouped(history.of("step.finished", "step.done"), lambda event: (event.type, event.step))
    for (event_type, step), events in told.items():
        newest = events[0]
        for event in events[1:]:
            if _epoch(event) < _epoch(newest) and _outcome(event) != _outcome(newest):
                yield f"fenced: {event_type} of {_path(step)} with epoch {_epoch(event)} after {_epoch(newest)}"
            newest = max(newest, event, key=_epoch)


def no_keyed_effect_happens_twice(history: History) -> Iterator[str]:
    """The server does each key once, so the caller may use one key per step and plan version, and no more."""
    keys: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for call in history.received:
        if call.effect == "keyed":
            keys[call.tenant, call.task, call.step].add(call.key)
    for (tenant, task, step), different in keys.items():
        if len(different) > (allowed := len(_versions(history, tenant, task, step))):
            yield f"keyed effect twice: {tenant}/{task}/{step} with {len(different)} keys for {allowed} plan versions"


def no_unrepeatable_effect_starts_twice(history: History) -> Iterator[str]:
    """A `once` or `checkable` action is asked for once, and again only after a person said it did not happen."""
    permitted = Counter(
        (event.tenant, event.task, event.step[3])
        for event in history.of("action.decided")
        if event.body.get("decision") == "not_happened"
    )
    for key, calls in grouped(history.received, lambda call: call.key).items():
        call = calls[0]
        step = _split(call.step)[1]
        if call.effect in _UNREPEATABLE and len(calls) > 1 + permitted[call.tenant, call.task, step]:
            yield f"{call.effect} effect twice: {call.tenant}/{call.task}/{call.step} key {key}, {len(calls)} starts"


def what_is_called_was_started(history: History) -> Iterator[str]:
    """Each call belongs to a step.started."""
    for call in {(call.tenant, call.task, call.step) for call in history.received}:
        if not _versions(history, *call):
            yield f"called without a start: {'/'.join(call)}"


RULES: Final = (
    every_task_ends_once,
    no_id_says_two_things,
    steps_are_numbered_without_gaps,
    a_status_never_goes_back,
    a_step_is_started_before_it_is_done,
    an_end_is_the_end,
    nothing_comes_from_a_fenced_epoch,
    no_keyed_effect_happens_twice,
    no_unrepeatable_effect_starts_twice,
    what_is_called_was_started,
)


def _waiting(history: History) -> set[TaskKey]:
    """Name the tasks whose newest status says what they wait for, beyond the last record."""
    now = max((event.at for event in history.read.events), default=0.0)
    found = set()
    for task, events in history.by_task("task.status").items():
        newest = events[-1].body
        until = str(newest.get("waiting_until") or "")
        parked = newest.get("state") in _PARKED and newest.get("waiting_for") and until
        if parked and datetime.fromisoformat(until).timestamp() >= now:
            found.add(task)
    return found


def _versions(history: History, tenant: str, task: str, step: str) -> set[int]:
    version, name = _split(step)
    return {
        event.step[2]
        for event in history.started.get((tenant, task, name), ())
        if version is None or event.step[2] == version
    }


def _epoch(event: Told) -> int:
    return int(event.body.get("epoch", 0))


def _outcome(event: Told) -> tuple[Any, ...]:
    return event.body.get("outcome"), event.body.get("output_digest")


def _name(task: TaskKey) -> str:
    return "/".join(task)


def _path(step: StepKey) -> str:
    return f"{step[0]}/{step[1]}/v{step[2]}/{step[3]}"


def _split(step: str) -> tuple[int | None, str]:
    version, slash, name = step.partition("/")
    return (int(version.removeprefix("v")), name) if slash else (None, step)


def _figures(history: History) -> dict[str, int | float]:
    ends = history.by_task("task.done")
    waiting = _waiting(history) - ends.keys()
    keyed = [call.key for call in history.received if call.effect == "keyed"]
    asked = [event for event in history.of("action.proposed") if event.body.get("reason") == "outcome_unknown"]
    outcomes = Counter(str(events[0].body.get("outcome")) for events in ends.values())
    figures: dict[str, int | float] = {
        "tasks": len(history.accepted),
        "ended": len(history.accepted.keys() & ends.keys()),
        "waiting": len(waiting),
        "lost": len(history.accepted.keys() - ends.keys() - waiting),
        "refused": len(history.read.refused),
        "events": len(history.first),
        "told_again": len(history.read.events) - len(history.first),
        "unreadable": history.read.unreadable,
        "dead_letters": history.read.dead_letters,
        "calls": len(history.received),
        "probes": sum(call.phase == "probed" for call in history.calls),
        "keyed_effects": len(set(keyed)),
        "keyed_repeats": len(keyed) - len(set(keyed)),
        "keyed_twice": len(list(no_keyed_effect_happens_twice(history))),
        "once_started": len({call.key for call in history.received if call.effect == "once"}),
        "unknown_outcomes": len(asked),
        "late_calls": _late_calls(history),
    }
    return figures | {f"tasks_{outcome}": count for outcome, count in outcomes.items()}


def _late_calls(history: History) -> int:
    """Count the calls of an owner that came after the first call of a later owner."""
    newest: dict[str, int] = {}
    late = 0
    for call in history.received:
        late += call.epoch < newest.get(call.key, 0)
        newest[call.key] = max(newest.get(call.key, 0), call.epoch)
    return late
