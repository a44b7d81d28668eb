"""Says each event of a task in one line, and prints the lines as a timeline."""

import json
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.text import Text

from raa_cli.telling import printable
from raa_client.observed import Observed
from raa_client.story import check_sentence
from raa_schemas.action import ActionDecided, ActionProposed
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.cancel import CancelRequested
from raa_schemas.event import Event
from raa_schemas.plan import Plan, PlanProposed, PlanReady, PlanRejected, dependencies
from raa_schemas.redrive import RedriveDone
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepDone, StepStarted
from raa_schemas.task import TaskCreated, TaskDone, TaskStalled, TaskStatus
from raa_schemas.usage import UsageRecorded

GOOD, BAD, ASKS, SMALL, PLAIN = "green", "red", "yellow", "dim", ""
SHOWN_CHARACTERS: Final = 96
PLAIN_WIDTH: Final = 120


class Line(NamedTuple):
    """What an event says to a person, and how it is meant."""

    text: str
    style: str = PLAIN


def line_of(event: Event) -> Line:
    """Say an event in one line; an event without words of its own says nothing."""
    say = _WORDS.get(type(event))
    return say(event) if say else Line("", SMALL)


def _created(event: TaskCreated) -> Line:
    check = f"  check: {event.success_check}" if event.success_check else ""
    return Line(f"{event.goal}{check}", "bold")


def _status(event: TaskStatus) -> Line:
    if event.waiting_for and event.state in {"waiting_approval", "stalled"}:
        until = f" until {event.waiting_until:%Y-%m-%d %H:%M} UTC" if event.waiting_until else ""
        return Line(f"{event.state.replace('_', ' ')}: {event.waiting_for}{until}", ASKS)
    steps = f" {event.steps_done}/{event.steps_total} steps" if event.steps_total else ""
    return Line(f"{event.state}{steps}{' (without memory)' if event.memory_degraded else ''}", SMALL)


def _proposed(event: PlanProposed) -> Line:
    lessons = f"; applies {', '.join(event.plan.lessons)}" if event.plan.lessons else ""
    return Line(f"attempt {event.attempt}: {shape_of(event.plan)} ({event.plan.origin}){lessons}")


def shape_of(plan: Plan) -> str:
    """Write a plan in one line: each step with its tool and what it waits for."""
    steps = []
    for step in plan.steps:
        needs = ", ".join(sorted(dependencies(step)))
        steps.append(f"{step.id} = {step.tool}{f' after {needs}' if needs else ''}")
    return "; ".join(steps)


def _ready(event: PlanReady) -> Line:
    return Line(f"verified, {len(event.grants)} of {len(event.plan.steps)} steps granted", SMALL)


def _rejected(event: PlanRejected) -> Line:
    return Line("; ".join(finding.message for finding in event.findings), BAD)


def _started(event: StepStarted) -> Line:
    again = f" (start {event.attempt})" if event.attempt > 1 else ""
    return Line(f"{event.step}: {event.tool}{again}", SMALL)


def _done(event: StepDone) -> Line:
    took = f"{event.step} {event.outcome.replace('_', ' ')} in {event.usage.duration_ms} ms"
    if event.error:
        return Line(f"{took}: {event.error.code}, {event.error.message}", BAD)
    shown = event.result if event.terminal and event.result is not None else event.output
    return Line(
        f"{took}: {short(shown)}" if shown is not None else took, PLAIN if event.outcome == "succeeded" else BAD
    )


def short(value: Any, characters: int = SHOWN_CHARACTERS) -> str:
    """Write a JSON value in a few characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _reflected(event: ReflectionDone) -> Line:
    said = check_sentence(event.check) if event.check else ""
    reason = "; ".join(part for part in (said, event.reason if event.reason != said else "") if part)
    learned = "".join(f" Learned: {lesson.text}" for lesson in event.lessons)
    style = {"accept": GOOD, "replan": ASKS, "give_up": BAD}[event.verdict]
    return Line(
        f"{event.verdict.replace('_', ' ')}{f': {reason}' if reason else ''}{f'.{learned}' if learned else ''}", style
    )


def _asked(event: ActionProposed) -> Line:
    return Line(f"{event.step}: may {event.tool} run with {short(event.args)}?", ASKS)


def _decided(event: ActionDecided) -> Line:
    why = f": {event.reason}" if event.reason else ""
    return Line(
        f"{event.step} {event.decision.replace('_', ' ')}{why}",
        GOOD if event.decision in {"allowed", "happened"} else BAD,
    )


def _approval(event: ApprovalRequested) -> Line:
    choice = (
        "`raa approve` or `raa deny`"
        if event.question == "may_run"
        else "`raa approve` (it happened) or `raa deny` (it did not)"
    )
    return Line(
        f"{event.step} waits for you: {event.tool} with {short(event.args)}. "
        f"Decide with {choice} {event.task_id} {event.step}",
        ASKS,
    )


def _answered(event: ApprovalDecided) -> Line:
    return Line(
        f"{event.step}: {event.verdict.replace('_', ' ')} by key {event.decided_by}"
        f"{f', {event.reason}' if event.reason else ''}"
    )


def _cancel(event: CancelRequested) -> Line:
    return Line(f"by {event.requested_by}{f': {event.reason}' if event.reason else ''}", ASKS)


def _stalled(event: TaskStalled) -> Line:
    return Line(f"{event.dead_type} became a dead letter in {event.dead_letter_topic}: {event.message}", BAD)


def _redriven(event: RedriveDone) -> Line:
    solved = event.outcome in {"handled", "ignored"}
    words = f"dead letter {event.letter} of {event.group} was {event.outcome}"
    return Line(f"{words}{f': {event.reason}' if event.reason else ''}", GOOD if solved else BAD)


def _usage(event: UsageRecorded) -> Line:
    cost = "no known price" if event.cost_microusd is None else f"{event.cost_microusd} micro-USD"
    return Line(
        f"{event.model}: {event.prompt_tokens} + {event.completion_tokens} tokens, {cost}, {event.latency_ms} ms", SMALL
    )


def _end(event: TaskDone) -> Line:
    if event.outcome == "succeeded":
        return Line(
            f"succeeded: {short(event.result)}{'' if event.checked else ' (nobody checked it)'}", f"bold {GOOD}"
        )
    why = f": {event.error.code}, {event.error.message}" if event.error else ""
    return Line(f"{event.outcome.replace('_', ' ')}{why}", f"bold {BAD}")


_WORDS: Final[dict[type[Event], Callable[[Any], Line]]] = {
    TaskCreated: _created, TaskStatus: _status, PlanProposed: _proposed, PlanReady: _ready, PlanRejected: _rejected,
    StepStarted: _started, StepDone: _done, ReflectionDone: _reflected, ActionProposed: _asked,
    ActionDecided: _decided, ApprovalRequested: _approval, ApprovalDecided: _answered, CancelRequested: _cancel,
    TaskStalled: _stalled, RedriveDone: _redriven, UsageRecorded: _usage, TaskDone: _end,
}  # fmt: skip


def open_console(*, quiet: bool = False) -> Console:
    """Open standard output: in colour on a terminal, plain and wide elsewhere."""
    console = Console(highlight=False, quiet=quiet)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


class Timeline:
    """Print events with the seconds since the first one; in colour on a terminal, plain elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or open_console()
        self._begin: datetime | None = None

    def show(self, observed: Observed) -> None:
        """Print one event."""
        self._begin = self._begin or observed.envelope.time
        after = max((observed.envelope.time - self._begin).total_seconds(), 0)
        line = line_of(observed.event)
        text = Text.assemble(
            (f"{after:8.3f} s  ", SMALL), (f"{observed.envelope.type:<20}", "cyan"), (printable(line.text), line.style)
        )
        # Beside a terminal nobody knows the width: one event stays one line.
        if self._console.is_terminal:
            self._console.print(text)
        else:
            self._console.print(text, no_wrap=True, overflow="ignore", crop=False)
