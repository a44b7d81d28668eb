"""Tells the story of a task to the reflector: plans, the ends of their runs, and what was concluded."""

from typing import Any

from raa_reflector.domain.attempt import Attempt, Ran, gather
from raa_reflector.domain.judge import Judgement, judge
from raa_schemas.artifact import Source
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.plan import Plan, Step
from raa_schemas.step import Outcome, StepRecord

PROFILE = "table.profile"
QUERY = "table.query"


def source(name: str, digit: str = "1", delimiter: str = ";") -> Source:
    return Source(name=name, sha256=digit * 64, size=1_000, schema_hash=f"sch_{digit * 16}", delimiter=delimiter)


def query(file: str, column: str, read: dict[str, Any] | None = None, *, step: str = "q", fn: str = "mean") -> Step:
    table = {"file": file} | ({"read": read} if read is not None else {})
    return Step(id=step, tool=QUERY, args={"table": table, "select": [{"fn": fn, "column": column, "as": fn}]})


def profile(file: str, column: str, read: dict[str, Any] | None = None, *, step: str = "profile") -> Step:
    table = {"file": file} | ({"read": read} if read is not None else {})
    return Step(id=step, tool=PROFILE, args={"table": table, "columns": [column]})


def suspects(step: str = "profile") -> dict[str, str]:
    return {"ref": step, "path": "/columns/0/suspects"}


def profiled(column: str, found: list[float], low: float = -200, high: float = 11.9) -> dict[str, Any]:
    entry = {
        "name": column,
        "kind": "number",
        "count": 9357,
        "missing": 0,
        "distinct": 97,
        "min": low,
        "max": high,
        "suspects": found,
    }
    return {"row_count": 9357, "columns": [entry]}


def rows(value: float, name: str = "mean") -> dict[str, Any]:
    return {"rows": [{name: value}], "row_count": 1, "columns": [name], "truncated": False}


def not_numeric(column: str, *shapes: tuple[str, int, str]) -> ErrorInfo:
    listed = [{"shape": shape, "count": count, "example": example} for shape, count, example in shapes]
    return error("not_numeric", f"values of {column} are not numbers", column=column, shapes=listed)


class Story:
    """One task: remembers its attempts and what was concluded of each."""

    def __init__(self, *sources: Source, check: str | None = None, memory: bool = True) -> None:
        self.sources = list(sources)
        self.check = check
        self.memory = memory
        self.attempts: list[Attempt] = []

    def attempt(
        self,
        steps: list[Step],
        ends: dict[str, Any],
        *,
        result: Any = None,
        value: Any = None,
        lessons: list[str] | None = None,
        outcomes: dict[str, Outcome] | None = None,
        allowed_tools: list[str] | None = None,
    ) -> Judgement:
        """Run a plan: `ends` gives per step its output, or the error it failed with; absent steps were skipped."""
        number = len(self.attempts) + 1
        result = result if result is not None else {"ref": steps[-1].id, "path": "/rows/0/mean"}
        plan = Plan(version=number, steps=steps, result=result, lessons=lessons or [])
        records = [_record(step, ends, outcomes or {}) for step in steps]
        failed = any(record.outcome != "succeeded" for record in records)
        ran = Ran(status="failed" if failed else "succeeded", records=records, result=None if failed else value)
        told = gather(number, plan, self.sources, ran, check=self.check, allowed_tools=allowed_tools)
        judgement = judge("t1", self.attempts, told, learns=self.memory)
        self.attempts.append(told.model_copy(update={"hypotheses": judgement.hypotheses}))
        return judgement


def _record(step: Step, ends: dict[str, Any], outcomes: dict[str, Outcome]) -> StepRecord:
    end = ends.get(step.id)
    if isinstance(end, ErrorInfo):
        return StepRecord(definition=step, outcome=outcomes.get(step.id, "failed"), attempt=1, error=end)
    outcome: Outcome = "succeeded" if step.id in ends else "skipped"
    return StepRecord(definition=step, outcome=outcomes.get(step.id, outcome), attempt=1, output=end)
