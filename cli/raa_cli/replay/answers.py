"""Serves recorded answers inside a sandbox, by the digest of what is asked; what is not recorded is refused.

A task that asks for something else than it did is marked as diverged there, and everything it asks afterwards fails,
unless the change allows to ask the model, or to run a tool that changes nothing outside the sandbox.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

from raa_cli.replay.change import Allowed, Change, Diverged
from raa_cli.replay.evidence import NO_MODEL, Evidence, Outcome
from raa_executor.ports import Tools
from raa_planner.activities import question_digest
from raa_router.domain.request import ChatRequest
from raa_runtime.activities import ActivityFailed, Call, Run
from raa_runtime.errors import DependencyUnavailable
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.ids import task_aggregate
from raa_schemas.recall import RecallAnswer, RecallRequest

ALLOW_MODEL: Final = "--allow model"
ALLOW_READS: Final = "--allow reads"
_BEYOND: Final = timedelta(days=1)
_AT_ONCE: Final = 0.01


@dataclass
class Served:
    """One task in the sandbox: its evidence, what was served of it, and where it diverged."""

    evidence: Evidence
    change: Change
    before: Callable[[datetime], Awaitable[None]]
    """Waits until everything that came from outside before a recorded time has come."""
    other_tools: bool = False
    """Whether the tools here are not those the task was planned with."""
    diverged: Diverged | None = None
    live: int = 0
    under_way: int = 0
    served: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    durations: dict[str, int] = field(default_factory=dict)

    def refuse(self, where: str, why: str, flag: str | None) -> NoReturn:
        """Mark the task as diverged, unless it did before, and fail what it asks."""
        self.mark(where, why, flag)
        raise ActivityFailed(ErrorInfo(code="diverged", message=f"{self.diverged}"))

    def mark(self, where: str, why: str, flag: str | None) -> None:
        """Note where it diverged first."""
        if self.other_tools:
            why += "; the tools here are not those it was planned with, name yours with --tools"
        self.diverged = self.diverged or Diverged(where, why, flag)

    def allows(self, what: Allowed) -> bool:
        """Say whether the change lets this be done now; nothing is, once the task has diverged."""
        return self.diverged is None and what in self.change.allow


class Stage:
    """The tasks in the sandbox, by aggregate."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}

    def enter(self, tenant: str, task: str, served: Served) -> None:
        """Let a task be served."""
        self._served[task_aggregate(tenant, task)] = served

    def of(self, tenant: str, task: str) -> Served:
        """Give what a task is served from; raises ActivityFailed for one that is not replayed here."""
        found = self._served.get(task_aggregate(tenant, task))
        if found is None:
            raise ActivityFailed(ErrorInfo(code="diverged", message=f"{task} is not replayed here"))
        return found


@dataclass(frozen=True)
class RecordedMemory:
    """Memory as it answered then, without the lesson that is withheld."""

    stage: Stage

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        """Give the recorded lessons; away, if it was away."""
        served = self.stage.of(tenant, request.task)
        evidence = served.evidence
        if evidence.recall is None:
            raise DependencyUnavailable("memory did not answer when this task was recorded")
        if evidence.recall_request not in {None, question_digest(request)}:
            served.refuse("recall", "the planner asks memory another question", None)
        kept = [one for one in evidence.recall.lessons if not served.change.drops(one.lesson.id)]
        return evidence.recall.model_copy(update={"lessons": kept})


@dataclass(frozen=True)
class RecordedModels:
    """The router's activity `complete`, answered from the recording where the request's digest is unchanged."""

    stage: Stage
    live: Run

    async def __call__(self, call: Call) -> Any:
        """Give the recorded answer, ask the model if that is allowed, or refuse."""
        served = self.stage.of(call.tenant, call.args.get("task", ""))
        digest = ChatRequest.model_validate(call.args["request"]).digest
        answers = served.evidence.answers.get(digest, [])
        place = served.served[digest]
        served.served[digest] += 1
        if answers:
            answer = answers[min(place, len(answers) - 1)]
            await served.before(answer.at)
            return answer.said
        if (problem := _no_answer_then(served)) is not None:
            raise ActivityFailed(problem.model_copy(update={"retryable": False}))  # it was waited for then
        if served.allows("model"):
            return await _counted(served, self.live, call)
        number = sum(served.served.values())
        return served.refuse(f"model call {number}", f"its prompt or model is not the recorded one ({digest[:15]}…)",
                             ALLOW_MODEL)  # fmt: skip


def _no_answer_then(served: Served) -> ErrorInfo | None:
    """Say how the recorded task ended if its last model call had no answer; such a call leaves nothing else."""
    problem = served.evidence.done.error
    all_served = all(served.served[digest] >= len(answers) for digest, answers in served.evidence.answers.items())
    ended_so = problem is not None and problem.code in NO_MODEL
    return problem if ended_so and all_served and served.change.kind in {"nothing", "policy"} else None


@dataclass(frozen=True)
class RecordedTools:
    """The executor's activity `tool`, answered from the recording where tool, arguments and files are unchanged."""

    stage: Stage
    live: Run
    tools: Tools

    async def __call__(self, call: Call) -> Any:
        """Give the recorded outcome, run a tool that only reads if that is allowed, or refuse."""
        served = self.stage.of(call.tenant, call.task_id)
        path = call.aggregate.removeprefix(f"{task_aggregate(call.tenant, call.task_id)}/")
        served.starts[path] += 1
        outcome = self._recorded(served, call, path)
        if outcome is not None:
            served.durations[path] = outcome.told.usage.duration_ms
            if outcome.told.outcome == "cancelled":
                await _until_stopped(call, served)
            return await _as_then(served, outcome, served.starts[path])
        tool = call.args["tool"]
        why = f"{tool} is called with arguments or files that are not recorded"
        if not self._only_reads(tool):
            return served.refuse(f"step {path}", f"{why}, and its effect is {call.effect}: it never runs here", None)
        if not served.allows("reads"):
            return served.refuse(f"step {path}", why, ALLOW_READS)
        return await _counted(served, self.live, call)

    def _recorded(self, served: Served, call: Call, path: str) -> Outcome | None:
        tool = call.args["tool"]
        files = {item["name"]: item["sha256"] for item in call.args["manifest"]} if self.tools.reads_files(tool) else {}
        found = served.evidence.outcomes.get((tool, call.args["args_hash"]), [])
        fitting = [one for one in found if _same_files(one.files, files)]
        own = [one for one in fitting if f"v{one.told.plan_version}/{one.told.step}" == path]
        return next(iter([*own, *fitting]), None)

    def _only_reads(self, tool: str) -> bool:
        spec = self.tools.specs().get(tool)
        if spec is None:
            return False
        return spec.effect == "read" or (spec.effect == "keyed" and spec.risk == "workspace")


def _same_files(then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Say whether files of one name have one content; which others were there depends on steps run in parallel."""
    return all(then[name] == now[name] for name in then.keys() & now.keys())


async def _until_stopped(call: Call, served: Served) -> None:
    """Wait for the stop that ended this step when it was recorded.

    Its own time limit must not be faster here. The limit of this try is running, so the next one gets a longer one.
    """
    longest = served.evidence.recording.ended + _BEYOND
    if call.deadline < longest:
        call.deadline = longest
        raise DependencyUnavailable("the step was stopped when it was recorded", retry_after=_AT_ONCE)
    await asyncio.Event().wait()


async def _as_then(served: Served, outcome: Outcome, start: int) -> Any:
    told = outcome.told
    if start <= outcome.unknown or told.outcome == "outcome_unknown":
        return {"status": "unknown"}
    if start < told.attempt and told.outcome == "succeeded":
        raise ActivityFailed(error("tool_timeout", "an earlier start of this step failed for a passing reason"))
    await served.before(outcome.at)
    if told.error is not None:
        raise ActivityFailed(told.error)
    changed = [item.model_dump(mode="json") for item in told.changed]
    return {
        "status": "succeeded",
        "output": told.output,
        "output_ref": told.output_ref,
        "output_digest": told.output_digest,
        "changed": changed,
        "duration_ms": told.usage.duration_ms,
    }


async def _counted(served: Served, live: Run, call: Call) -> Any:
    served.live += 1
    served.under_way += 1
    try:
        return await live(call)
    finally:
        served.under_way -= 1


class RecordedApprovers:
    """The people who decided when the tasks were recorded; in the sandbox their answers are taken as given."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def know(self, key_ids: Collection[str]) -> None:
        """Let these decide."""
        self._known |= set(key_ids)

    def known(self) -> Mapping[str, str]:
        """Give them as safety knows approvers."""
        return dict.fromkeys(self._known, "")


def taken_as_given(public: str, content: bytes, signature: str) -> bool:
    """Accept an answer: only the sandbox writes to its bus, and only answers that counted when they were given."""
    return public == "" and bool(content) and signature == "recorded"
