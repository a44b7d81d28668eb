"""Evidence: what the outside told a task, as its events cite it: memory's lessons, models' answers, tools' outcomes."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from raa_cli.execute import CommandFailed
from raa_cli.replay.recording import Recording
from raa_client.observed import Observed
from raa_runtime.blobs import BlobStore
from raa_runtime.scope import TenantScope
from raa_schemas.action import ActionDecided, ActionProposed
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.artifact import Source
from raa_schemas.cancel import CancelRequested
from raa_schemas.ids import TenantId
from raa_schemas.plan import Citations, Plan, PlanProposed
from raa_schemas.recall import RecallAnswer, Recalled
from raa_schemas.reflection import Lesson
from raa_schemas.step import StepFinished, StepReady
from raa_schemas.task import TaskCreated, TaskDone
from raa_schemas.usage import UsageRecorded

BLOB: Final = "blob:sha256/"
NO_MODEL: Final = frozenset({"model_unavailable", "budget_exhausted"})
"""How a task ends whose model gave no answer: nothing is recorded of such a call but this."""

Place = tuple[int, str]


class EvidenceGone(CommandFailed):
    """Something that a replay has to read is past its retention, or was never kept."""


class Outcome(NamedTuple):
    """How one step went: what it was given, and what its tool said."""

    at: datetime
    files: Mapping[str, str]
    told: StepFinished
    unknown: int
    """How often nobody knew what became of it before it ended like this."""


class Answer(NamedTuple):
    """What a model said, as the router keeps it."""

    at: datetime
    said: dict[str, Any]


@dataclass
class Evidence:
    """All that one task was told."""

    recording: Recording
    asked: str = "default"
    recall: RecallAnswer | None = None
    recall_request: str | None = None
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    cancels: list[Observed] = field(default_factory=list)
    votes: list[ApprovalDecided] = field(default_factory=list)
    questions: set[tuple[int, str, str, str]] = field(default_factory=set)

    @property
    def created(self) -> Observed:
        """Give the task as it was submitted."""
        return next(seen for seen in self.recording.events if isinstance(seen.event, TaskCreated))

    @property
    def done(self) -> TaskDone:
        """Give its end."""
        return next(seen.event for seen in self.recording.events if isinstance(seen.event, TaskDone))

    @property
    def manifest(self) -> dict[str, str]:
        """Give the content hashes of its inputs by name, as far as a plan names them."""
        plans = self.recording.all(PlanProposed)
        return {item.name: item.sha256 for item in plans[0].manifest} if plans else {}

    @property
    def tools(self) -> str | None:
        """Give the digest of the tools it was planned with."""
        plans = self.recording.all(PlanProposed)
        cited = plans[-1].citations if plans else self.done.citations
        return cited.tools if cited else None

    @property
    def lessons(self) -> list[str]:
        """Name the lessons memory gave it."""
        return [one.lesson.id for one in self.recall.lessons] if self.recall else []


async def evidence_of(recording: Recording, blobs: BlobStore, known: Mapping[str, Lesson]) -> Evidence:
    """Collect what a task was told; raises EvidenceGone naming everything that is missing."""
    found = Evidence(recording)
    scope = TenantScope(TenantId(recording.tenant))
    missing = await _inputs_gone(recording, blobs, scope)
    for part in (_recall(found, blobs, scope, known), _answers(found, blobs, scope)):
        try:
            await part
        except EvidenceGone as gone:
            missing.append(str(gone))
    _outcomes(found)
    missing += await _outputs_gone(found, blobs, scope)
    _people(found)
    if missing:
        raise EvidenceGone("; ".join(missing))
    return found


async def _inputs_gone(recording: Recording, blobs: BlobStore, scope: TenantScope) -> list[str]:
    plans = recording.all(PlanProposed)
    files = {item.sha256: item.name for item in plans[0].manifest} if plans else {}
    created = recording.newest(TaskCreated)
    named = {*files.values()}
    for item in created.inputs if created else ():
        if (item.uri or "").startswith("file:") and item.name not in named:
            return [f"its input {item.name} was a file of a host, and no plan names its content"]
    there = await asyncio.gather(*(blobs.exists(scope, recording.task_id, sha256) for sha256 in files))
    gone = [name for name, here in zip(files.values(), there, strict=True) if not here]
    return [f"the blob of its input {name} is gone" for name in gone]


async def _outputs_gone(found: Evidence, blobs: BlobStore, scope: TenantScope) -> list[str]:
    wanted: dict[str, str] = {}
    for told in (one.told for group in found.outcomes.values() for one in group):
        hashes = [item.sha256 for item in told.changed]
        hashes += [told.output_ref.removeprefix(BLOB)] if told.output_ref else []
        wanted |= dict.fromkeys(hashes, f"a blob of step v{told.plan_version}/{told.step} is gone")
    there = await asyncio.gather(*(blobs.exists(scope, found.recording.task_id, sha256) for sha256 in wanted))
    return list(dict.fromkeys(text for text, here in zip(wanted.values(), there, strict=True) if not here))


async def _read(found: Evidence, blobs: BlobStore, scope: TenantScope, reference: str, what: str) -> Any:
    task, sha256 = found.recording.task_id, reference.removeprefix(BLOB)
    if not await blobs.exists(scope, task, sha256):
        raise EvidenceGone(f"the blob of {what} is gone")
    return json.loads(await blobs.get(scope, task, sha256))


async def _recall(found: Evidence, blobs: BlobStore, scope: TenantScope, known: Mapping[str, Lesson]) -> None:
    cited = _first_citations(found.recording)
    created = found.recording.newest(TaskCreated)
    if cited is None or cited.recall is None:
        remembers = created is not None and created.plan is None and created.constraints.memory == "on"
        found.recall = None if remembers else RecallAnswer(digest="")
        return
    found.recall_request = cited.recall_request
    lessons: list[Recalled] = []
    if cited.recall_ref is not None:
        told = await _read(found, blobs, scope, cited.recall_ref, "memory's answer")
        lessons = [Recalled.model_validate(item) for item in told["lessons"]]
    elif cited.recall_request is None:
        lessons = _lessons_of_an_older_release(found.recording, known)
    found.recall = RecallAnswer(lessons=lessons, stale=found.done.memory_degraded, digest=cited.recall)


def _first_citations(recording: Recording) -> Citations | None:
    plans = recording.all(PlanProposed)
    if plans:
        return plans[0].citations
    done = recording.newest(TaskDone)
    return done.citations if done else None


def _lessons_of_an_older_release(recording: Recording, known: Mapping[str, Lesson]) -> list[Recalled]:
    """Put together what 0.1.0 cited by digest alone: the lessons shown, about the inputs they fit."""
    plans = recording.all(PlanProposed)
    shown = plans[0].lessons_shown if plans else []
    if unknown := [lesson for lesson in shown if lesson not in known]:
        raise EvidenceGone(f"the reflection.done that taught {unknown[0]} is gone")
    sources = plans[0].sources if plans else []
    return [Recalled(lesson=known[one], applies_to=_about(known[one], sources), why=[]) for one in shown]


def _about(lesson: Lesson, sources: Sequence[Source]) -> list[str]:
    same = [one.name for one in sources if lesson.when.source_sha256 == one.sha256]
    alike = [one.name for one in sources if one.schema_hash and lesson.when.schema_hash == one.schema_hash]
    return list(dict.fromkeys([*same, *alike]))


async def _answers(found: Evidence, blobs: BlobStore, scope: TenantScope) -> None:
    calls = [seen for seen in found.recording.events if isinstance(seen.event, UsageRecorded)]
    usages = [(seen.envelope.time, seen.event) for seen in calls if isinstance(seen.event, UsageRecorded)]
    rebuilt = _answers_of_an_older_release(found.recording, [usage for _, usage in usages])
    for place, (at, usage) in enumerate(usages):
        found.asked = usage.asked or found.asked
        if usage.answer_ref is not None:
            said = await _read(found, blobs, scope, usage.answer_ref, f"the answer to model call {place + 1}")
        elif rebuilt is not None:
            said = rebuilt[place]
        else:
            raise EvidenceGone(f"the answer to model call {place + 1} was not kept")
        found.answers[usage.request_digest].append(Answer(at, said))


def _answers_of_an_older_release(recording: Recording, usages: Sequence[UsageRecorded]) -> list[dict[str, Any]] | None:
    """Put together the answers that 0.1.0 did not keep, where each became a plan."""
    plans = [event.plan for event in recording.all(PlanProposed) if event.plan.origin in {"model", "replan"}]
    if any(usage.asked for usage in usages) or len(plans) != len(usages):
        return None
    return [
        {
            "content": _written(plan),
            "model": usage.model,
            "tier": usage.tier,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost_microusd": usage.cost_microusd,
            "latency_ms": usage.latency_ms,
            "fallback": usage.fallback,
        }
        for plan, usage in zip(plans, usages, strict=True)
    ]


def _written(plan: Plan) -> str:
    return plan.model_dump_json(include={"steps", "result", "lessons"})


def _outcomes(found: Evidence) -> None:
    recording = found.recording
    given = {(item.plan_version, item.step): item for item in recording.all(StepReady)}
    unknown: dict[Place, int] = defaultdict(int)
    for asked in recording.all(ActionProposed):
        unknown[asked.plan_version, asked.step] += asked.reason == "outcome_unknown"
    for seen in recording.events:
        told = seen.event
        if not isinstance(told, StepFinished) or not told.attempt or told.args_hash is None:
            continue
        ready = given.get((told.plan_version, told.step))
        files = {item.name: item.sha256 for item in ready.manifest} if ready else {}
        outcome = Outcome(seen.envelope.time, files, told, unknown[told.plan_version, told.step])
        found.outcomes[told.tool, told.args_hash].append(outcome)


def _people(found: Evidence) -> None:
    """Take in what came from outside while it ran. Only answers that safety acted on count as a person's."""
    recording = found.recording
    asked = {event.approval_id: event for event in recording.all(ApprovalRequested)}
    found.questions = {_question(event) for event in asked.values()}
    acted = {(event.plan_version, event.step, event.args_hash) for event in recording.all(ActionDecided)}
    for vote in recording.all(ApprovalDecided):
        if vote.approval_id in asked and (vote.plan_version, vote.step, vote.args_hash) in acted:
            found.votes.append(vote)
    cancels = (seen for seen in recording.events if isinstance(seen.event, CancelRequested))
    found.cancels = [seen for seen in cancels if seen.envelope.source != "raa/planner"]


def _question(event: ApprovalRequested) -> tuple[int, str, str, str]:
    return event.plan_version, event.step, event.args_hash, event.question
