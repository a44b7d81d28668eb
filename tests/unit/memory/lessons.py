"""Lessons, deltas and reflections to test with."""

from datetime import timedelta
from typing import Any

from raa_memory.domain.episode import Delta
from raa_runtime.testing import NOON, received
from raa_runtime.unit import Received
from raa_schemas.canonical import digest
from raa_schemas.recall import RecallRequest
from raa_schemas.reflection import Episode, Evidence, Label, Lesson, ReflectionDone, Scope, When

TOOL = "table.query"
FAMILY = "table.aggregate"


def lesson(
    then: dict[str, Any] | None = None,
    *,
    sha: str | None = "aa",
    schema: str | None = "sch_a",
    name: str | None = None,
    tool: str = TOOL,
    kind: str = "recover",
    state: str = "candidate",
) -> Lesson:
    patch = {"args": {"read": {"decimal": ","}}} if then is None else {"args": then}
    when = When(source_sha256=sha, schema_hash=schema)
    identity = "les_" + digest([when.model_dump(), tool, patch]).removeprefix("sha256:")[:12]
    return Lesson.model_validate(
        {
            "id": name or identity,
            "kind": kind,
            "scope": Scope(family=FAMILY, tool=tool),
            "when": when,
            "then": patch,
            "text": "…",
            "evidence": Evidence(failed=["v1/a"], fixed=["v2/a"]),
            "state": state,
        }
    )


def delta(about: Lesson, task: str = "t1", minute: int = 0, reflection: str | None = None) -> Delta:
    return Delta(
        reflection=reflection or f"ref-{task}-{minute}",
        task_id=task,
        attempt=2,
        learned_at=NOON + timedelta(minutes=minute),
        lesson=about,
    )


def reflection(
    *lessons: Lesson, task: str = "t1", event_id: str = "ref-1", attempt: int = 2, **changed: Any
) -> Received[ReflectionDone]:
    said = {
        "task_id": task,
        "plan_version": attempt,
        "verdict": "accept",
        "checked": True,
        "lessons": list(lessons),
        "label": Label(value=1, source="checker", confidence=1),
        "episode": Episode(attempt=attempt, plan_hash="sha256:x", goal="average"),
    }
    return received(ReflectionDone.model_validate(said | changed), event_id=event_id)


def request(*sources: tuple[str, str, str | None], tools: tuple[str, ...] = (TOOL,), **changed: Any) -> RecallRequest:
    wanted = [{"name": name, "sha256": sha, "schema": schema} for name, sha, schema in sources]
    return RecallRequest.model_validate(
        {"task": "t9", "goal": "g", "family": FAMILY, "tools": list(tools), "sources": wanted} | changed
    )
