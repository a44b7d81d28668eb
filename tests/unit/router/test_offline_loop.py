"""Plans of the offline model, run by the real tools on generated files, against truth computed by other means."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.context import CallContext
from raa_executor.tools.errors import ToolError
from raa_executor.tools.registry import call
from raa_executor.tools.workspace import Workspace
from raa_runtime.tabular import read_head, sniff
from raa_schemas.artifact import Source
from raa_schemas.plan import Plan, bind, dependencies
from tests.unit.router.prompts import Json, plan

TOOLS = built_in_tools()
CODE = -777.0


def source_of(path: Path) -> Source:
    found = sniff(read_head(path))
    return Source(name=path.name, sha256="0" * 64, size=1, format=found.format, columns=list(found.columns))


def run(found: Json, folder: Path, *files: Path) -> Any:
    """Run a plan as the executor would; returns its result, or the failed step with its error."""
    planned = Plan.model_validate(found)
    workspace = Workspace(folder, {path.name: path for path in files})
    outputs: dict[str, Any] = {}
    waiting = list(planned.steps)
    while waiting:
        step = next(step for step in waiting if dependencies(step) <= outputs.keys())
        context = CallContext("key", "default", "t1", step.id, 1, datetime.now(UTC))
        try:
            outputs[step.id] = asyncio.run(call(TOOLS, step.tool, bind(step.args, outputs), workspace, context))
        except ToolError as failed:
            error = {"code": failed.code, "message": failed.message, "details": failed.details}
            return {"step": step.id, "tool": step.tool, "error": error}
        waiting.remove(step)
    return bind(planned.result, outputs)


def attempts_of(
    goal: str, folder: Path, file: Path, holds: Callable[[Any], bool], column: str
) -> tuple[list[Any], list[Json]]:
    """Plan and run until the check holds, with the hypothesis a reflector draws from a bound that does not."""
    results: list[Any] = []
    earlier: list[Json] = []
    for number in (1, 2, 3):
        found = plan(goal, source_of(file), earlier_attempts=earlier)
        result = run(found, folder / str(number), file)
        results.append(result)
        if isinstance(result, dict) and "error" in result:
            earlier.append({"attempt": number, "plan": found, "failed_step": result, "hypotheses": []})
        elif not holds(result):
            look = {"kind": "inspect_values", "tool": "table.profile", "file": file.name, "columns": [column]}
            earlier.append({"attempt": number, "plan": found, "failed_step": None, "hypotheses": [look]})
        else:
            break
    return results, earlier


def table(path: Path, delimiter: str, decimal: str, column: str, values: list[float]) -> Path:
    rows = [delimiter.join((f"r{number}", f"{value:.2f}".replace(".", decimal))) for number, value in enumerate(values)]
    path.write_text("\n".join([f"name{delimiter}{column}", *rows]) + "\n")
    return path


@pytest.mark.parametrize(("delimiter", "decimal"), [(";", ","), ("\t", ","), ("|", ","), (";", "."), (",", ".")])
def test_each_attempt_gets_further_until_the_mean_is_true(tmp_path: Path, delimiter: str, decimal: str) -> None:
    chance = random.Random(f"{delimiter}{decimal}")
    real = [round(chance.uniform(10, 90), 2) for _ in range(400)]
    values = [*real, *[CODE] * 60]
    chance.shuffle(values)
    file = table(tmp_path / "odd table.txt", delimiter, decimal, "Flow [l/s]", values)
    results, _ = attempts_of(
        "average Flow [l/s] in odd table.txt", tmp_path, file, lambda mean: mean >= 0, "Flow [l/s]"
    )
    *failures, wrong, right = results
    assert [failure["error"]["code"] for failure in failures] == (["not_numeric"] if decimal == "," else [])
    assert wrong == pytest.approx(fmean(values))
    assert right == pytest.approx(fmean(real))


def test_a_lesson_makes_the_first_attempt_true(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", ";", ",", "x", [1.5, 2.5, CODE])
    lesson = {"id": "les_1", "applies_to": ["a.csv"], "tool": "table.query",
              "then": {"args": {"table": {"read": {"decimal": ",", "missing": [CODE]}}}}}  # fmt: skip
    assert run(plan("mean of x", source_of(file), lessons=[lesson]), tmp_path / "w", file) == 2.0


def test_groups_filters_and_tops_give_what_counting_by_hand_gives(tmp_path: Path) -> None:
    file = tmp_path / "trips.csv"
    file.write_text("city,km,day\nA,1,mon\nA,3,tue\nB,10,mon\nB,2,tue\nC,4,mon\n")
    seen = source_of(file)

    def ask(goal: str) -> Any:
        return run(plan(goal, seen), tmp_path / "w", file)

    assert ask("sum of km by city") == [{"city": "A", "sum": 4}, {"city": "B", "sum": 12}, {"city": "C", "sum": 4}]
    assert ask("mean km where day is mon") == 5
    assert ask("how many trips have km at least 3") == 3
    assert ask("top 1 city by total km") == [{"city": "B", "sum": 12}]
    assert ask("2 lowest km") == [{"km": 1}, {"km": 2}]
    assert ask("median km where city is A or C") == 3
    assert ask("compare the max km for day = mon and day = tue")["difference"] == 7
    assert ask("what is 2 ** 5 - 1") == 31


def test_a_comparison_is_written_with_the_values_it_found(tmp_path: Path) -> None:
    first, second = (
        table(tmp_path / f"{name}.csv", ";", ".", "x", [value]) for name, value in (("a1", 2.0), ("b1", 3.5))
    )
    found = plan("compare the mean x of a1.csv and b1.csv and write out.md", source_of(first), source_of(second))
    result = run(found, tmp_path / "w", first, second)
    assert result == {"a1.csv": 2.0, "b1.csv": 3.5, "difference": -1.5}
    written = (tmp_path / "w" / "out" / "out.md").read_text()
    assert "- a1.csv: 2.0000\n- b1.csv: 3.5000\n- difference: -1.5000 (a1.csv minus b1.csv" in written
