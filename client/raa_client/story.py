"""Folds the events of one task into its story: plans, steps, lessons, safety's decisions, why each attempt ended.

Pure, and independent of the order in which the events were read.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from raa_client.observed import Observed, in_order
from raa_schemas.action import ActionDecided, ActionProposed
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.event import Event
from raa_schemas.plan import Plan, PlanProposed, PlanReady, PlanRejected, Step, dependencies
from raa_schemas.reflection import CheckReport, Hypothesis, Lesson, ReflectionDone
from raa_schemas.step import StepDone, StepStarted
from raa_schemas.task import TaskCreated, TaskDone, TaskStatus

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class StepStory:
    """One step of a plan, and what became of it."""

    id: str
    tool: str
    args: dict[str, Any]
    needs: list[str]
    outcome: str
    tries: int = 0
    duration_ms: int = 0
    error: str | None = None
    error_code: str | None = None
    output: Any = None


@dataclass(frozen=True, slots=True)
class LessonStory:
    """A lesson as the story tells it; without a text if no event at hand says what it is."""

    id: str
    text: str | None
    tool: str | None = None
    then: dict[str, Any] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """One plan: from its proposal to what reflection said of it."""

    attempt: int
    plan_version: int
    origin: str
    state: str
    steps: list[StepStory]
    result: Any
    lessons_used: list[LessonStory]
    lessons_learned: list[LessonStory]
    tried: list[str]
    check: str | None
    check_held: bool | None
    check_actual: Any
    verdict: str | None
    why_ended: str

    @property
    def executed(self) -> bool:
        """Say whether the plan ran, and did not end at safety."""
        return self.state not in {"proposed", "rejected"}


@dataclass(frozen=True, slots=True)
class DecisionStory:
    """What safety, or a person, decided."""

    at: datetime
    about: str
    decision: str
    why: str


@dataclass(frozen=True, slots=True)
class Story:
    """The whole task."""

    task_id: str
    tenant: str
    goal: str
    success_check: str | None
    inputs: list[str]
    memory: str
    submitted_at: datetime | None
    ended_at: datetime | None
    state: str
    waiting_for: str | None
    attempts: list[AttemptStory]
    decisions: list[DecisionStory]
    done: TaskDone | None

    def to_json(self) -> dict[str, Any]:
        """Write it as one JSON object."""
        told = asdict(self)
        told["done"] = self.done.model_dump(mode="json") if self.done else None
        plain: dict[str, Any] = json.loads(json.dumps(told, default=str))
        return plain


def fold_story(events: Iterable[Observed], known: Mapping[str, Lesson] | None = None) -> Story:
    """Tell the story of one task; `known` lessons give those it used, but learned elsewhere, their words.

    Raises ValueError when there are no events.
    """
    ordered = in_order(events)
    if not ordered:
        raise ValueError("a task without events has no story")
    facts = [observed.event for observed in ordered]
    created, done = _newest(facts, TaskCreated), _newest(facts, TaskDone)
    status = _newest(facts, TaskStatus)
    plans = _plans(facts)
    learned = {lesson.id: lesson for event in _all(facts, ReflectionDone) for lesson in event.lessons}
    lessons = dict(known or {}) | learned
    return Story(
        task_id=ordered[0].envelope.subject,
        tenant=ordered[0].tenant,
        goal=created.goal if created else next((plan.goal for plan in plans.values()), ""),
        success_check=created.success_check if created else None,
        inputs=[item.name for item in created.inputs] if created else [],
        memory=created.constraints.memory if created else "on",
        submitted_at=next((seen.envelope.time for seen in ordered if isinstance(seen.event, TaskCreated)), None),
        ended_at=next((seen.envelope.time for seen in ordered if isinstance(seen.event, TaskDone)), None),
        state=done.outcome if done else status.state if status else "submitted",
        waiting_for=status.waiting_for if status and not done else None,
        attempts=[_attempt(plans[version], facts, lessons) for version in sorted(plans)],
        decisions=[_decided(observed, text) for observed in ordered if (text := _decision(observed.event))],
        done=done,
    )


def lessons_cited(events: Iterable[Observed]) -> list[str]:
    """Name the lessons that the plans of a task cite."""
    plans = _plans([observed.event for observed in events])
    return sorted({lesson for proposed in plans.values() for lesson in proposed.plan.lessons})


def _all(facts: Iterable[Event], kind: type[E]) -> list[E]:
    return [fact for fact in facts if isinstance(fact, kind)]


def _newest(facts: Sequence[Event], kind: type[E]) -> E | None:
    return next((fact for fact in reversed(facts) if isinstance(fact, kind)), None)


def _plans(facts: Sequence[Event]) -> dict[int, PlanProposed]:
    """Give each plan version as it was last seen: ready, else proposed."""
    plans: dict[int, PlanProposed] = {}
    for fact in _all(facts, PlanProposed):
        if fact.plan.version not in plans or isinstance(fact, PlanReady):
            plans[fact.plan.version] = fact
    return plans


def _attempt(proposed: PlanProposed, facts: Sequence[Event], lessons: Mapping[str, Lesson]) -> AttemptStory:
    plan = proposed.plan
    rejected = [fact for fact in _all(facts, PlanRejected) if fact.plan_version == plan.version]
    started = [fact for fact in _all(facts, StepStarted) if fact.plan_version == plan.version]
    settled = {fact.step: fact for fact in _all(facts, StepDone) if fact.plan_version == plan.version}
    reflected = next((fact for fact in _all(facts, ReflectionDone) if fact.plan_version == plan.version), None)
    ended = next((fact for fact in settled.values() if fact.terminal), None)
    waiting = "verified" if isinstance(proposed, PlanReady) else "proposed"
    state: str = "rejected" if rejected else ended.run_status if ended else waiting
    check = reflected.check if reflected else None
    running = {fact.step for fact in started} - settled.keys()
    return AttemptStory(
        attempt=proposed.attempt,
        plan_version=plan.version,
        origin=plan.origin,
        state=state,
        steps=[_step(step, settled.get(step.id), running=step.id in running) for step in plan.steps],
        result=ended.result if ended else None,
        lessons_used=[_lesson(identity, lessons.get(identity)) for identity in plan.lessons],
        lessons_learned=[_lesson(lesson.id, lesson) for lesson in (reflected.lessons if reflected else [])],
        tried=[_hypothesis(item) for item in proposed.hypotheses],
        check=check.check if check else None,
        check_held=check.value if check else None,
        check_actual=(check.failed_atom or {}).get("actual") if check else None,
        verdict=reflected.verdict if reflected else None,
        why_ended=_why(plan, rejected, list(settled.values()), reflected),
    )


def _step(step: Step, done: StepDone | None, *, running: bool) -> StepStory:
    needs = sorted(dependencies(step))
    if done is None:
        return StepStory(step.id, step.tool, step.args, needs, "running" if running else "planned")
    problem = done.error
    return StepStory(
        step.id,
        step.tool,
        step.args,
        needs,
        done.outcome,
        done.attempt,
        done.usage.duration_ms,
        problem.message if problem else None,
        problem.code if problem else None,
        done.output_ref or done.output,
    )


def _lesson(identity: str, lesson: Lesson | None) -> LessonStory:
    if lesson is None:
        return LessonStory(identity, None)
    evidence = [
        *(f"failed at {step}" for step in lesson.evidence.failed),
        *(f"held at {step}" for step in lesson.evidence.fixed),
    ]
    return LessonStory(identity, lesson.text, lesson.scope.tool, lesson.then, evidence)


def _hypothesis(item: Hypothesis) -> str:
    where = f" in {item.file}" if item.file else ""
    if item.kind == "inspect_values":
        return f"look at the values of {', '.join(item.columns) or 'the input'}{where}"
    change = json.dumps(item.then, ensure_ascii=False) if item.then else "other arguments"
    return f"call {item.tool} with {change}"


def _why(
    plan: Plan, rejected: Sequence[PlanRejected], settled: Sequence[StepDone], reflected: ReflectionDone | None
) -> str:
    if rejected:
        return "safety rejected the plan: " + "; ".join(finding.message for finding in rejected[-1].findings)
    failures = [
        f"step {done.step} {done.outcome.replace('_', ' ')}"
        + (f": {done.error.code}, {done.error.message}" if done.error else "")
        for done in settled
        if done.outcome in {"failed", "outcome_unknown", "cancelled"}
    ]
    if failures:
        return "; ".join(failures)
    if reflected is None:
        return "not judged yet" if len(settled) == len(plan.steps) else "not ended yet"
    if reflected.check is not None:
        return check_sentence(reflected.check)
    return (
        "every step succeeded; there is no success check, so nobody checked the value"
        if reflected.verdict == "accept"
        else reflected.reason
    )


def check_sentence(report: CheckReport) -> str:
    """Say what a check said, with the value that decided it."""
    if report.value:
        return f"the check {report.check!r} holds"
    atom = report.failed_atom or {}
    if "actual" in atom:
        return f"the check {report.check!r} fails: {atom.get('path') or 'the value'} is {atom['actual']}"
    return f"the check {report.check!r} fails" + (f": {report.reason}" if report.reason else "")


def _decision(event: Event) -> tuple[str, str, str] | None:
    """Read a decision as what it is about, what was decided, and why."""
    match event:
        case PlanReady():
            asked = [step.id for step in event.plan.steps if step.id not in event.grants]
            why = f"{len(event.grants)} of {len(event.plan.steps)} steps granted"
            return (
                f"plan {event.plan.version}",
                "verified",
                why + (f"; asked when their arguments are known: {', '.join(asked)}" if asked else ""),
            )
        case PlanRejected():
            return f"plan {event.plan_version}", "rejected", "; ".join(item.message for item in event.findings)
        case ActionProposed():
            return _place(event), "asked", f"{event.tool} ({event.risk}): {event.reason.replace('_', ' ')}"
        case ActionDecided():
            return _place(event), event.decision.replace("_", " "), event.reason
        case ApprovalRequested():
            return _place(event), "waits for a person", event.effect_summary
        case ApprovalDecided():
            return _place(event), f"a person answered {event.verdict.replace('_', ' ')}", event.reason
        case _:
            return None


def _place(event: ActionProposed | ActionDecided | ApprovalRequested | ApprovalDecided) -> str:
    return f"v{event.plan_version}/{event.step}"


def _decided(observed: Observed, text: tuple[str, str, str]) -> DecisionStory:
    return DecisionStory(observed.envelope.time, *text)
