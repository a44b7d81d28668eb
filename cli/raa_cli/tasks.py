"""Runs, submits, watches, ends and fetches tasks."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from raa_cli.execute import FAILED, UsageProblem
from raa_cli.inputs import doubt, forgotten_among
from raa_cli.misspelt import misspelt
from raa_cli.output import note, outcome_json, print_json, print_outcome
from raa_cli.session import Place, Session, open_session, reading, running, stack_overrides
from raa_cli.timeline import Timeline, short
from raa_client.client import Client, new_task_id
from raa_client.errors import TaskUnknown
from raa_client.observed import Observed
from raa_runtime.errors import RaaError
from raa_runtime.telemetry import configure_logging
from raa_schemas.check import CheckSyntaxError, parse_check
from raa_schemas.plan import Plan
from raa_schemas.reflection import ReflectionDone
from raa_schemas.task import TaskCreated, TaskDone

LAST_WORD_SECONDS: Final = 2.0
"""How long an interrupted run waits for the end of its task."""

_OPTIONS: Final = {
    "constraints.budget_usd": "--budget",
    "constraints.deadline_seconds": "--deadline",
    "constraints.max_attempts": "--attempts",
    "task_id": "--task-id",
}


@dataclass(frozen=True)
class Wanted:
    """A task as it is asked for on the command line."""

    goal: str
    inputs: Sequence[Path] = ()
    check: str | None = None
    plan: Path | None = None
    memory: str = "on"
    budget: str | None = None
    deadline: float | None = None
    attempts: int | None = None
    task_id: str | None = None

    def draft(self) -> TaskCreated:
        """Build the task without its files; raises UsageProblem naming the option that is wrong."""
        limits = {
            "memory": self.memory,
            "budget_usd": self.budget,
            "deadline_seconds": self.deadline,
            "max_attempts": self.attempts,
        }
        fields: dict[str, Any] = {
            "task_id": self.task_id or new_task_id(),
            "goal": self.goal,
            "success_check": _checked(self.check),
            "plan": _plan(self.plan) if self.plan else None,
            "constraints": {name: value for name, value in limits.items() if value is not None},
        }
        try:
            return TaskCreated.model_validate(fields)
        except ValidationError as problem:
            raise UsageProblem(_told(problem)) from None


def _checked(check: str | None) -> str | None:
    try:
        if check is not None:
            parse_check(check)
    except CheckSyntaxError as problem:
        raise UsageProblem(f"--check {check!r} does not parse: {problem}; docs/checks.md has the language") from None
    return check


def _plan(path: Path) -> Plan:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise UsageProblem(f"--plan {path} cannot be read: {problem.strerror}") from None
    try:
        plan = Plan.model_validate_json(content)
    except ValidationError as problem:
        found = [*_misspelt(content), _told(problem)]
        raise UsageProblem(f"--plan {path} is no plan: {'; '.join(found[:5])}") from None
    if found := _misspelt(content):
        raise UsageProblem(f"--plan {path}: {'; '.join(found[:5])}")
    return plan


def _misspelt(content: bytes) -> list[str]:
    try:
        return list(misspelt(Plan, json.loads(content)))
    except ValueError:  # no JSON at all, which is told anyway
        return []


def _told(problem: ValidationError) -> str:
    return "; ".join(
        f"{_named('.'.join(map(str, item['loc'])))}: {item['msg']}"
        for item in problem.errors(include_url=False, include_input=False)[:5]
    )


def _named(field: str) -> str:
    return _OPTIONS.get(field, field) or "the value"


async def _with_files(client: Client, wanted: Wanted, draft: TaskCreated) -> TaskCreated:
    if not wanted.inputs:
        return draft
    names = [path.name for path in wanted.inputs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageProblem(f"two inputs are called {min(twice)!r}; copy one under another name")
    inputs = [await client.attach(draft.task_id or "", path) for path in wanted.inputs]
    for path in wanted.inputs:
        if said := doubt(path):
            note(f"{path}: {said}")
    return draft.model_copy(update={"inputs": inputs})


def _files_exist(wanted: Wanted) -> None:
    """Say so before a stack is started for it, and which file the goal names that was not attached."""
    for path in wanted.inputs:
        if not path.exists():
            raise UsageProblem(f"--input: there is no file {path}; check the path")
    for name in forgotten_among(wanted.goal, wanted.inputs):
        note(f"the goal names {name}, which is not attached; a task sees only its inputs: add --input {name}")


async def run(
    place: Place,
    wanted: Wanted,
    *,
    tools: Sequence[Path],
    model: str | None,
    log_level: str,
    save: Path | None,
    as_json: bool,
) -> int:
    """Run one task to its end, in what runs on the data folder or in a stack of its own."""
    configure_logging(log_level)
    draft = wanted.draft()
    _files_exist(wanted)
    place.prepare()
    overrides = stack_overrides(place.data, tools=tools, model=model)
    async with open_session(place, **overrides) as session:
        task = await _with_files(session.client, wanted, draft)
        events = await _followed(session, task, Timeline() if not as_json else None)
        return await _report(session.client, events, save, as_json=as_json)


async def _followed(session: Session, task: TaskCreated, timeline: Timeline | None) -> list[Observed]:
    events: list[Observed] = []
    try:
        async with aclosing(session.client.run(task)) as seen:
            async for observed in seen:
                events.append(observed)
                if timeline:
                    timeline.show(observed)
    except asyncio.CancelledError:
        await _interrupted(session, task.task_id or "", begun=bool(events))
        raise
    return events


async def _interrupted(session: Session, task_id: str, *, begun: bool) -> None:
    """End our own task with our own stack; leave one that others run."""
    if not begun:
        note("interrupted before the task was submitted")
    elif session.stack is None:
        note(
            f"interrupted; {task_id} goes on. Follow it with `raa watch {task_id}`, end it with `raa cancel {task_id}`"
        )
    else:
        with contextlib.suppress(RaaError):
            await session.client.cancel(task_id, "interrupted at the keyboard", "operator")
            await session.client.result(task_id, LAST_WORD_SECONDS)
        note(f"interrupted; {task_id} was cancelled")


async def _report(client: Client, events: Sequence[Observed], save: Path | None, *, as_json: bool) -> int:
    done = next((observed.event for observed in reversed(events) if isinstance(observed.event, TaskDone)), None)
    if done is None:
        raise TaskUnknown("the bus ended before the task did; ask for it with `raa result`")
    return await _show_outcome(client, done, events, save, as_json=as_json)


async def _show_outcome(
    client: Client, done: TaskDone, events: Sequence[Observed], save: Path | None, *, as_json: bool
) -> int:
    value = await client.value_of(done)
    saved = await client.save(done.task_id, done.artifacts, save) if save else []
    if as_json:
        print_json(outcome_json(done, value))
    else:
        learned = {
            lesson.id: lesson.text
            for observed in events
            if isinstance(observed.event, ReflectionDone)
            for lesson in observed.event.lessons
        }
        others = [one for one in [*done.lessons_used, *done.lessons_learned] if one not in learned]
        known = {one: lesson.text for one, lesson in (await client.lessons(others)).items()}
        print_outcome(done, value, known | learned)
        for path in saved:
            print(f"  saved     {path}")
        if done.artifacts and not save:
            print(f"  get them  raa result {done.task_id} --save DIR")
    return 0 if done.outcome == "succeeded" else FAILED


async def submit(place: Place, wanted: Wanted, *, as_json: bool) -> None:
    """Hand a task to what runs, and say its id."""
    draft = wanted.draft()
    _files_exist(wanted)
    async with running(place) as client:
        first = await _first_of_its_name(client, wanted)
        task = await _with_files(client, wanted, draft)
        task_id = await client.submit(task)
    differs = differences(first, task) if first else []
    if as_json:
        print_json({"task_id": task_id, "first_submission": first is None, "ignored": differs})
        return
    print(task_id)
    if first:
        said = f", not with this {' and '.join(differs)}: it was submitted with the goal {short(first.goal)!r}"
        note(f"{task_id} was there before; this is the first submission's task{said if differs else ''}")
    note(f"follow it with `raa watch {task_id}`")


async def _first_of_its_name(client: Client, wanted: Wanted) -> TaskCreated | None:
    """Find the task that has this id already; only a person who chose the id can meet one."""
    if wanted.task_id is None:
        return None
    try:
        known = await client.history(wanted.task_id)
    except TaskUnknown:
        return None
    return next((seen.event for seen in known if isinstance(seen.event, TaskCreated)), None)


def differences(first: TaskCreated, second: TaskCreated) -> list[str]:
    """Name what a second submission asks for that the first did not; it is ignored."""
    return [
        name.replace("_", " ")
        for name in ("goal", "inputs", "success_check", "plan", "constraints")
        if getattr(first, name) != getattr(second, name)
    ]


async def watch(place: Place, task_id: str, *, as_json: bool) -> int:
    """Print the events of a task until it ends; exit code as for `run`."""
    timeline = Timeline()
    done: TaskDone | None = None
    async with reading(place) as session:
        known = await session.client.history(task_id)
        ended = any(isinstance(observed.event, TaskDone) for observed in known)
        if not ended and session.offline:
            note(f"no stack runs on {place.data}; {task_id} goes on with `raa up --data {place.data}`")
        events = session.client.watch(task_id) if ended or not session.offline else _listed(known)
        async with aclosing(events) as seen:
            async for observed in seen:
                done = observed.event if isinstance(observed.event, TaskDone) else done
                if as_json:
                    print_json(observed.to_json())
                else:
                    timeline.show(observed)
    return 0 if done and done.outcome == "succeeded" else FAILED


async def _listed(events: Sequence[Observed]) -> AsyncGenerator[Observed, None]:
    for observed in events:
        yield observed


async def result(place: Place, task_id: str, *, timeout_seconds: float | None, save: Path | None, as_json: bool) -> int:
    """Print how a task ended, waiting for it if it runs."""
    async with reading(place) as session:
        patience = 0.0 if session.offline else timeout_seconds
        done = await session.client.result(task_id, patience)
        return await _show_outcome(session.client, done, [], save, as_json=as_json)


async def cancel(place: Place, task_id: str, reason: str, *, as_json: bool) -> None:
    """Ask for the end of a task that is there."""
    async with running(place) as client:
        known = await client.history(task_id)
        ended = next((seen.event for seen in known if isinstance(seen.event, TaskDone)), None)
        if ended is None:
            await client.cancel(task_id, reason, "operator")
    said = {"task_id": task_id, "cancelled": ended is None, "state": ended.outcome if ended else "cancel_requested"}
    if as_json:
        print_json(said)
    elif ended:
        print(f"{task_id} had ended before: {ended.outcome}")
    else:
        print(f"asked for the end of {task_id}; `raa result {task_id}` shows it")
