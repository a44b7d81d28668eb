"""What commands print: text for people, or JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raa_cli.telling import printable, printable_text
from raa_schemas.task import TaskDone


def print_json(value: Any) -> None:
    """Print one JSON value on a line of its own, at once; what a terminal would act upon is escaped."""
    print(printable(json.dumps(value, ensure_ascii=False, default=str)), flush=True)


def print_rows(rows: Iterable[Sequence[str]], head: Sequence[str]) -> None:
    """Print a plain table with columns as wide as they need to be."""
    table = [list(head), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def note(text: str) -> None:
    """Tell a person something beside the output."""
    sys.stderr.write(f"{text}\n")


def outcome_json(done: TaskDone, value: Any) -> dict[str, Any]:
    """Give what `run` and `result` print for programs."""
    return {
        "task_id": done.task_id,
        "state": done.outcome,
        "result": value,
        "attempts": done.attempts,
        "checked": done.checked,
        "lessons_used": done.lessons_used,
        "lessons_learned": done.lessons_learned,
        "artifacts": [artifact.model_dump(mode="json") for artifact in done.artifacts],
        "error": done.error.model_dump(mode="json") if done.error else None,
        "cost_microusd": done.cost_microusd,
    }


def print_outcome(done: TaskDone, value: Any, lessons: Mapping[str, str]) -> None:
    """Print how a task ended, for people; `lessons` gives texts by id."""
    times = f"{done.attempts} attempt{'' if done.attempts == 1 else 's'}"
    if done.outcome == "succeeded":
        print(f"{done.task_id} succeeded after {times}, {'checked' if done.checked else 'not checked'}")
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        print(f"  result    {printable_text(said)}")
    else:
        print(f"{done.task_id} {done.outcome.replace('_', ' ')} after {times}")
    if done.error:
        print(f"  why       {done.error.code}: {printable(done.error.message)}")
    if done.error and done.error.hint:
        print(f"  next      {printable(done.error.hint)}")
    for artifact in done.artifacts:
        print(f"  file      {printable(artifact.name)} ({artifact.size} bytes)")
    for used in done.lessons_used:
        print(f"  used      {used} {printable(lessons.get(used, ''))}".rstrip())
    for learned in done.lessons_learned:
        print(f"  learned   {learned} {printable(lessons.get(learned, ''))}".rstrip())
    if done.cost_microusd:
        print(f"  cost      {done.cost_microusd / 1_000_000:.6f} USD")
