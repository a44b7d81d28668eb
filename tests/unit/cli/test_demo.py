"""The demo's parts: its generated files, its truth, and that it notices what is not as it must be."""

import asyncio
import csv
import statistics
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from raa_cli.demo.generate import generate
from raa_cli.demo.play import EXAMPLES, Stage
from raa_cli.demo.scenario import Attempt, Reading, Run, read_scenario
from raa_cli.demo.truth import mean_of
from raa_cli.demo.verdict import Verdict, judge
from raa_cli.execute import UsageProblem
from raa_cli.stack import Stack
from raa_cli.timeline import open_console
from raa_client.story import fold_story
from raa_runtime.telemetry import configure_logging
from tests.unit.client.told import observed, recovery

SEEDS = range(20)


def _run(**changes: object) -> Run:
    attempts = [Attempt(error="not_numeric"), Attempt(learns=[{"table": {"read": {"decimal": ","}}}])]
    made = Run("1", "a mean", [], "result >= 0", "on", "same", attempts, [Reading("a", "x")], checked=True)
    return replace(made, **changes)  # type: ignore[arg-type]


def _judged(run: Run, truth: float = 2.5) -> Verdict:
    return judge(run, fold_story(observed(recovery())), None, lambda _: truth)


def test_a_run_that_is_as_it_must_be_has_no_differences():
    assert _judged(_run()).differences == []


@pytest.mark.parametrize(
    ("run", "truth", "told"),
    [
        (_run(), 2.5001, "the result is 2.5000, not 2.5001"),
        (_run(checked=False), 2.5, "checked is True"),
        (_run(attempts=[Attempt(error="not_numeric")]), 2.5, "2 attempts, not 1"),
        (_run(attempts=[Attempt(error="empty_file"), Attempt()]), 2.5, "its errors are"),
        (_run(attempts=[Attempt(error="not_numeric"), Attempt()]), 2.5, "1 lessons learned, not 0"),
        (_run(cites=[{"table": {"read": {"decimal": ","}}}]), 2.5, "no lesson cited"),
        (_run(artifact="report.md"), 2.5, "it wrote no report.md"),
        (_run(parallel=2), 2.5, "in parallel"),
    ],
)
def test_each_difference_is_noticed_and_named(run: Run, truth: float, told: str):
    differences = _judged(run, truth).differences
    assert any(told in difference for difference in differences), differences


def test_a_task_that_did_not_succeed_is_a_difference():
    story = fold_story(observed(recovery()[:5]))
    assert not judge(_run(), story, None, lambda _: 2.5).right


def test_the_truth_leaves_out_empty_and_missing_cells_only(tmp_path: Path):
    (tmp_path / "t.csv").write_text("a;b\n1,5;x\n;x\n-9;x\n-9,0;x\n2,5;x\n")
    assert mean_of(tmp_path, Reading("t.csv", "a", ";", ",", ["-9"])) == 2.0
    assert mean_of(tmp_path, Reading("t.csv", "a", ";", ",")) == pytest.approx(statistics.mean([1.5, -9, -9, 2.5]))


def test_a_scenario_that_is_not_there_says_where_to_run_the_demo(tmp_path: Path):
    with pytest.raises(UsageProblem, match="clone of the repository"):
        read_scenario(tmp_path / "demo.json", tmp_path)


def test_the_shipped_scenario_names_files_that_are_there():
    scenario = read_scenario(EXAMPLES / "demo.json", EXAMPLES / "data")
    assert [run.name for run in scenario.runs] == ["1", "2", "3", "4", "5", "6"]
    assert all((scenario.folder / name).is_file() for run in scenario.runs for name in run.inputs)


def test_the_sentinel_pulls_the_first_mean_below_0_and_leaves_the_second_above(tmp_path: Path):
    points, delimiters = 0, set()
    for seed in range(100):
        runs = generate(seed, tmp_path).runs
        wrong = next(attempt.fails_check_at for attempt in runs[0].attempts if attempt.fails_check_at)
        assert mean_of(tmp_path, wrong) < 0 < mean_of(tmp_path, runs[0].means[0])
        assert 0 <= mean_of(tmp_path, runs[2].means[0]) < mean_of(tmp_path, runs[1].means[0])
        points += wrong.decimal == "."
        delimiters.add(wrong.delimiter)
    assert points == 20
    assert delimiters == {";", "\t", "|"}


def test_the_same_seed_writes_the_same_file_and_another_seed_another(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    name = generate(3, tmp_path / "a").runs[0].inputs[0]
    assert generate(3, tmp_path / "b").runs[0].inputs == [name]
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert generate(4, tmp_path / "b").runs[0].inputs != [name]
    with (tmp_path / "a" / name).open(newline="") as file:
        assert len(list(csv.reader(file))) == 901


def test_twenty_seeds_come_out_as_the_generator_knows():
    """Each on the real stack, each with a memory of its own."""
    configure_logging("error")

    async def play() -> list[Verdict]:
        with TemporaryDirectory(prefix="raa-") as folder:
            async with Stack(Path(folder), environment={}, drain_seconds=0) as stack:
                await stack.ready()
                return [verdict for seed in SEEDS for verdict in await _played(stack, seed, Path(folder))]

    wrong = {(number // 3, verdict.run.name): verdict.differences
             for number, verdict in enumerate(asyncio.run(play())) if not verdict.right}  # fmt: skip
    assert wrong == {}


async def _played(stack: Stack, seed: int, folder: Path) -> list[Verdict]:
    own = folder / f"seed-{seed}"
    own.mkdir()
    stage = Stage(stack, open_console(quiet=True), own, f"seed-{seed}")
    scenario = generate(seed, own)
    return [await stage.play(scenario, run) for run in scenario.runs]
