"""Promise 6: the same task says the same things for the same reasons with and without Kafka.

What may differ is abstracted here, once: ids, times, duplicates, the order of concurrent steps, how often a status was
told on the way, and which of several events that somebody waits for came last and so is named as the cause.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import pytest

from raa_client.observed import Observed
from raa_schemas.canonical import digest
from raa_schemas.plan import PlanProposed, dependencies
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepDone, StepFinished, StepReady, StepStarted
from raa_schemas.task import TaskCreated, TaskDone, TaskStatus
from raa_schemas.usage import UsageRecorded
from tests.e2e.house import House
from tests.e2e.story import Stories


class Said(NamedTuple):
    """What an event says, without what is different each time."""

    type: str
    step: str | None
    what: str


def said(observed: Observed) -> Said:
    return Said(observed.envelope.type, observed.envelope.step, repr(_what(observed.event)))


def _what(event: Any) -> Any:  # noqa: PLR0911  # a table: one line per event
    match event:
        case PlanProposed():
            return event.plan.version, event.plan.origin, event.plan.content_hash(), len(event.plan.lessons)
        case StepReady():
            return event.definition.tool, event.args_hash
        case StepStarted():
            return event.tool, event.attempt
        case StepDone():
            return event.outcome, event.error and event.error.code, event.output_digest, event.run_status
        case StepFinished():
            return event.outcome, event.error and event.error.code, event.output_digest
        case ReflectionDone():
            learned = [(lesson.kind, digest(lesson.then)) for lesson in event.lessons]
            return event.plan_version, event.verdict, event.label.value, learned, len(event.hypotheses)
        case TaskStatus():
            return event.state, event.attempt
        case TaskDone():
            return event.outcome, event.result, event.checked, event.attempts, [file.name for file in event.artifacts]
        case UsageRecorded():
            return event.model, event.purpose
    return None


class Story:
    """The events of one task and why each was said."""

    def __init__(self, events: Sequence[Observed]) -> None:
        self.events = {event.id: event for event in events}

    def nodes(self) -> Counter[Said]:
        """Count what was said; a status is told as often as there is time for."""
        snapshots = {said(event) for event in self.events.values() if isinstance(event.event, TaskStatus)}
        return Counter([*snapshots, *(said(event) for event in self._steps_of_the_way())])

    def edges(self) -> Counter[tuple[Said, Said]]:
        """Count pairs of what was said and what it led to."""
        return Counter(
            (said(cause), said(event)) for event in self._steps_of_the_way() for cause in self._causes(event)
        )

    def unexplained(self) -> set[str]:
        """Name the types of the events that name no event of this task as their cause."""
        return {event.envelope.type for event in self.events.values() if event.envelope.causation_id not in self.events}

    def _steps_of_the_way(self) -> list[Observed]:
        return [event for event in self.events.values() if not isinstance(event.event, TaskStatus)]

    def _causes(self, event: Observed) -> Collection[Observed]:
        named = self.events.get(event.envelope.causation_id or "")
        if named is None:
            return []
        awaited = self._awaited_with(event.event, named)
        return awaited if named in awaited else [named]

    def _awaited_with(self, event: Any, named: Observed) -> list[Observed]:
        """List what somebody waits for until all of it is there; the last to come is the cause named."""
        if isinstance(event, StepReady):
            return [
                other
                for other in self.events.values()
                if isinstance(other.event, StepFinished)
                and other.event.plan_version == event.plan_version
                and other.event.step in dependencies(event.definition)
            ]
        if isinstance(event, ReflectionDone):
            return [other for other in self._about(event.plan_version) if not isinstance(other.event, ReflectionDone)]
        if isinstance(event, TaskDone | PlanProposed) and isinstance(named.event, StepDone | ReflectionDone):
            return [
                other
                for other in self._about(named.event.plan_version)
                if isinstance(other.event, StepDone | ReflectionDone)
            ]
        return []

    def _about(self, version: int) -> list[Observed]:
        """Find task, verified plan, end of the run and verdict of one attempt."""
        return [
            event
            for event in self.events.values()
            if isinstance(event.event, TaskCreated)
            or (event.envelope.type == "plan.ready" and event.event.plan.version == version)  # type: ignore[attr-defined]
            or (isinstance(event.event, StepDone) and event.event.terminal and event.event.plan_version == version)
            or (isinstance(event.event, ReflectionDone) and event.event.plan_version == version)
        ]


@pytest.mark.parametrize("number", ["1", "2", "3", "4", "5", "6"])
def test_a_task_says_the_same_for_the_same_reasons_on_both_buses(
    together: House, separate: House, stories: Stories, number: str
) -> None:
    embedded, kafka = Story(stories(together)[number]), Story(stories(separate)[number])
    assert embedded.nodes() == kafka.nodes()
    assert embedded.edges() == kafka.edges()


@pytest.mark.parametrize("number", ["1", "4"])
def test_every_event_but_the_first_names_the_event_that_led_to_it(house: House, stories: Stories, number: str) -> None:
    # a model call is asked for over HTTP, which carries no event
    assert Story(stories(house)[number]).unexplained() == {"task.created", "usage.recorded"}
