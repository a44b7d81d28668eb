"""Which tasks are replayed: named ones, or those created in a span of time; and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from raa_cli.execute import UsageProblem
from raa_cli.replay.compare import Compared
from raa_cli.replay.evidence import Evidence, EvidenceGone, evidence_of
from raa_cli.replay.original import Original
from raa_cli.replay.recording import Recording, created_between, lessons_of, read_tasks
from raa_schemas.ids import is_task_id
from raa_schemas.plan import PlanProposed
from raa_schemas.reflection import Lesson
from raa_schemas.task import TaskCreated


@dataclass(frozen=True)
class Selection:
    """Tasks by id, or by the time they were created."""

    tasks: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def read(cls, tasks: Sequence[str], since: str | None, until: str | None) -> "Selection":
        """Read it as it is written on the command line; raises UsageProblem."""
        if bool(tasks) == (since is not None or until is not None):
            raise UsageProblem("name tasks, or a span of time with --from and --to, and not both")
        if odd := [task for task in tasks if not is_task_id(task)]:
            raise UsageProblem(f"{odd[0]!r} is no task id")
        first, last = _instant("--from", since), _instant("--to", until)
        if first and last and first >= last:
            raise UsageProblem(f"--from {since} is not before --to {until}; no task was created in between: swap them?")
        return cls(list(dict.fromkeys(tasks)), first, last)


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageProblem(f"{option} {text!r} is no time; write it as 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass
class Found:
    """The cases that can be replayed, and why the others cannot, both by task id in the order they were chosen."""

    tasks: list[str]
    cases: dict[str, Evidence] = field(default_factory=dict)
    skipped: dict[str, Compared] = field(default_factory=dict)

    def goal(self, task: str) -> str:
        """Give what a task was about."""
        return goal_of(self.cases[task].recording) if task in self.cases else self.skipped[task].goal


async def find(original: Original, tenant: str, selection: Selection) -> Found:
    """Read the chosen tasks with their evidence; raises UsageProblem for a task nobody knows, and for none at all."""
    tasks = list(selection.tasks) or await created_between(
        original.bus, original.deployment, tenant, selection.since, selection.until
    )
    if not tasks:
        raise UsageProblem(f"no task of tenant {tenant!r} was created in that time; `raa topics tail task.created`")
    recordings = await read_tasks(original.bus, original.deployment, tenant, tasks)
    if unknown := [task for task in tasks if task not in recordings]:
        raise UsageProblem(
            f"no event of the task {unknown[0]} of tenant {tenant!r} is there: the id or --tenant is wrong, or all of "
            "it is past the retention of its topics"
        )
    known = await _lessons_by_words(original, tenant, list(recordings.values()))
    found = Found(tasks)
    for task in tasks:
        await _sort(found, recordings[task], original, known)
    return found


async def _sort(found: Found, recording: Recording, original: Original, known: dict[str, Lesson]) -> None:
    task, goal = recording.task_id, goal_of(recording)
    if (why := recording.why_not()) is not None:
        found.skipped[task] = Compared(task, goal, skipped=why)
        return
    try:
        found.cases[task] = await evidence_of(recording, original.blobs, known)
    except EvidenceGone as gone:
        found.skipped[task] = Compared(task, goal, skipped=str(gone))


async def _lessons_by_words(original: Original, tenant: str, recordings: Sequence[Recording]) -> dict[str, Lesson]:
    """Look up the lessons of tasks that cite memory's answer by digest alone, as 0.1.0 did."""
    plans = [event for recording in recordings for event in recording.all(PlanProposed)]
    wanted = {lesson for event in plans if event.citations.recall_request is None for lesson in event.lessons_shown}
    return await lessons_of(original.bus, original.deployment, tenant, wanted) if wanted else {}


def goal_of(recording: Recording) -> str:
    """Give the goal of a recorded task, empty when its first event is gone."""
    created = recording.newest(TaskCreated)
    return created.goal if created else ""
