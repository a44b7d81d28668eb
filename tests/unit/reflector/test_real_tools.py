"""The shipped tools on real and generated files, and a planner that only follows what reflection proposes."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.registry import CallContext, ToolError, Workspace, call
from raa_reflector.domain.judge import Judgement
from raa_runtime.tabular import HEAD_BYTES, schema_hash, sniff
from raa_schemas.artifact import Source
from raa_schemas.merge import merge_patch
from raa_schemas.plan import Step, UnboundReferenceError, bind
from raa_schemas.reflection import Lesson
from tests.unit.reflector.stories import Story, profile, query, suspects

DATA = Path(__file__).parents[3] / "examples" / "data"
CONTEXT = CallContext("key", "acme", "task", "step", 1, datetime(2026, 1, 1, tzinfo=UTC))


def seen(path: Path) -> Source:
    head = path.read_bytes()[:HEAD_BYTES]
    found = sniff(head)
    return Source(
        name=path.name,
        sha256=f"{abs(hash(head)):064x}"[:64],
        size=path.stat().st_size,
        schema_hash=schema_hash(found.columns, found.delimiter),
        delimiter=found.delimiter,
    )


@dataclass
class Agent:
    """Plans one query, changes it as it is told, and runs it with the real tools."""

    path: Path
    folder: Path
    check: str | None = None
    lessons: list[Lesson] = field(default_factory=list)

    def ask(self, column: str, fn: str = "mean", attempts: int = 3) -> list[Judgement]:
        story = Story(seen(self.path), check=self.check)
        step = query(self.path.name, column, fn=fn)
        for lesson in self.lessons:
            step = step.model_copy(update={"args": merge_patch(step.args, lesson.then["args"])})
        steps, told, value = [step], [], None
        for _ in range(attempts):
            ends = self._run(steps)
            row = ends.get("q", {})
            value = row["rows"][0][fn] if isinstance(row, dict) else None
            told.append(story.attempt(steps, ends, result={"ref": "q", "path": f"/rows/0/{fn}"}, value=value))
            self.lessons += told[-1].lessons
            if told[-1].verdict != "replan":
                break
            steps = self._changed(steps[-1], told[-1])
        self.value = value
        return told

    def _changed(self, step: Step, told: Judgement) -> list[Step]:
        for hypothesis in told.hypotheses:
            if hypothesis.then is not None:
                step = step.model_copy(update={"args": merge_patch(step.args, hypothesis.then["args"])})
            else:
                read = step.args["table"].get("read", {})
                table = {"file": self.path.name, "read": read | {"missing": suspects()}}
                changed = step.model_copy(update={"args": step.args | {"table": table}})
                return [profile(self.path.name, hypothesis.columns[0], read), changed]
        return [step]

    def _run(self, steps: list[Step]) -> dict[str, Any]:
        ends: dict[str, Any] = {}
        workspace = Workspace(self.folder / "step", {self.path.name: self.path})
        for step in steps:
            try:
                args = bind(step.args, ends)
                ends[step.id] = asyncio.run(call(built_in_tools(), step.tool, args, workspace, CONTEXT))
            except ToolError as problem:
                ends[step.id] = problem.info(step.id)
                break
            except UnboundReferenceError:
                break
        return ends


def patches(told: Judgement) -> list[Any]:
    return [lesson.then["args"]["table"]["read"] for lesson in told.lessons]


def test_air_quality_is_understood_in_three_attempts_and_then_in_one(tmp_path: Path) -> None:
    agent = Agent(DATA / "AirQualityUCI.csv", tmp_path, "result >= 0")
    told = agent.ask("CO(GT)")
    assert [one.verdict for one in told] == ["replan", "replan", "accept"]
    assert [patches(one) for one in told] == [[], [{"decimal": ","}], [{"missing": [-200]}]]
    assert agent.value == pytest.approx(2.1527, abs=1e-4)
    for column, truth in (("C6H6(GT)", 10.0831), ("NO2(GT)", 113.0913)):
        [only] = agent.ask(column)
        assert (only.verdict, only.lessons) == ("accept", [])
        assert agent.value == pytest.approx(truth, abs=1e-4)


def test_true_zeros_are_left_alone(tmp_path: Path) -> None:
    agent = Agent(DATA / "seattle-weather.csv", tmp_path, "result >= 0")
    assert [one.verdict for one in agent.ask("precipitation")] == ["accept"]
    assert agent.value == pytest.approx(3.0294, abs=1e-4)


def test_a_bound_that_true_values_break_ends_in_a_reason(tmp_path: Path) -> None:
    agent = Agent(DATA / "winequality-red.csv", tmp_path, "result > 20")
    told = agent.ask("alcohol")
    assert [one.verdict for one in told] == ["replan", "give_up"]
    assert "they look real" in told[-1].reason
    assert agent.lessons == []


@pytest.mark.parametrize("seed", range(20))
def test_generated_files_are_understood_whatever_their_signs_and_sentinel(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    delimiter, decimal = rng.choice(";\t|"), "." if seed % 5 == 0 else ","
    sentinel, places = rng.choice([-999, -200, -99.5, -1000]), rng.choice([1, 2, 3])
    truth, lines = [], [delimiter.join(["first", "second"])]
    for row in range(400):
        lost = row % 3 == 0
        value = round(rng.uniform(1, 20), places)
        truth += [] if lost else [value]
        cells = (float(sentinel) if lost else value, round(rng.uniform(50, 90), places))
        lines.append(delimiter.join(f"{cell:.{places}f}".replace(".", decimal) for cell in cells))
    path = tmp_path / f"made{seed}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    agent = Agent(path, tmp_path, "result >= 0")
    told = agent.ask("first")
    expected: list[Any] = [[], [{"missing": [sentinel]}]]
    if decimal == ",":
        expected = [[], [{"decimal": ","}], [{"missing": [sentinel]}]]
    assert [patches(one) for one in told] == expected
    assert agent.value == pytest.approx(sum(truth) / len(truth))
    [again] = agent.ask("first")
    assert (again.verdict, again.lessons) == ("accept", [])


def test_groups_decimals_and_marks_are_mended_together(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("shop;turnover\na;1.234,50\nb;NA\nc;12,25\nd;2.000.000,00\n", encoding="utf-8")
    agent = Agent(path, tmp_path)
    told = agent.ask("turnover", fn="max")
    assert [one.verdict for one in told] == ["replan", "accept"]
    assert agent.value == 2_000_000
    assert patches(told[-1]) == [{"decimal": ",", "thousands": ".", "missing": ["NA"]}]
