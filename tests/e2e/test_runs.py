"""The demo's tasks on real files, on both deployments, against what plain Python computes from the same files."""

import asyncio
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from raa_client.observed import Observed
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepDone
from raa_schemas.task import TaskDone
from tests.backends.s3 import ACCESS_KEY, BUCKET
from tests.e2e.house import House, apart, running
from tests.e2e.story import AIR, DATA, REPORT, WINES, Stories, run, task, told


def column(path: Path, name: str, delimiter: str) -> list[float]:
    with path.open(newline="", encoding="utf-8-sig") as text:
        cells = [row[name] for row in csv.DictReader(text, delimiter=delimiter)]
    return [float(cell.replace(",", ".")) for cell in cells if cell.strip()]


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def measured(name: str) -> float:
    """The mean of what was really measured: -200 stands for no measurement in this file."""
    return mean(value for value in column(AIR, name, ";") if value != -200)


def near(value: float) -> Any:
    return pytest.approx(value, abs=5e-5)


def attempts(events: list[Observed]) -> list[list[str]]:
    """Give per plan version how its steps ended, in the order of the plan's steps as they settled."""
    steps = [event.event for event in events if isinstance(event.event, StepDone)]
    return [
        [
            step.error.code if step.error else step.outcome
            for step in sorted(steps, key=lambda one: one.run_seq)
            if step.plan_version == version
        ]
        for version in sorted({step.plan_version for step in steps})
    ]


def lessons(events: list[Observed]) -> dict[str, Any]:
    """Give what was learned: lesson id to the arguments it adds."""
    reflections = [event.event for event in events if isinstance(event.event, ReflectionDone)]
    return {lesson.id: lesson.then for reflection in reflections for lesson in reflection.lessons}


def the_end(events: list[Observed]) -> TaskDone:
    (done,) = [event.event for event in events if isinstance(event.event, TaskDone)]
    return done


@pytest.fixture
def story(house: House, stories: Stories) -> dict[str, list[Observed]]:
    return stories(house)


def test_run_1_learns_the_decimal_comma_and_the_sentinel_from_its_own_failures(
    story: dict[str, list[Observed]],
) -> None:
    done = the_end(story["1"])
    assert (done.outcome, done.result, done.checked, done.attempts) == ("succeeded", near(measured("CO(GT)")), True, 3)
    first, second, third = attempts(story["1"])
    assert first == ["not_numeric"]
    assert second == ["succeeded"]
    assert third == ["succeeded", "succeeded"]
    learned = lessons(story["1"])
    assert done.lessons_learned == list(learned)
    comma, sentinel = learned.values()
    assert comma == {"args": {"table": {"read": {"decimal": ","}}}}
    assert sentinel["args"]["table"]["read"]["missing"] == [-200]


def test_run_2_is_right_at_once_and_cites_both_lessons(story: dict[str, list[Observed]]) -> None:
    done = the_end(story["2"])
    assert (done.outcome, done.result, done.checked, done.attempts) == (
        "succeeded",
        near(measured("C6H6(GT)")),
        True,
        1,
    )
    assert sorted(done.lessons_used) == sorted(the_end(story["1"]).lessons_learned)


def test_run_3_without_memory_passes_its_check_with_a_wrong_value(story: dict[str, list[Observed]]) -> None:
    done = the_end(story["3"])
    assert (done.outcome, done.result, done.attempts) == ("succeeded", near(mean(column(AIR, "C6H6(GT)", ";"))), 2)
    assert (done.lessons_used, done.lessons_learned) == ([], [])


def test_run_4_compares_two_files_in_parallel_and_writes_a_report(story: dict[str, list[Observed]]) -> None:
    check_report(story["4"])


def check_report(events: list[Observed]) -> None:
    done = the_end(events)
    assert (done.outcome, done.attempts) == ("succeeded", 1)
    outputs = {step.event.step: step.event for step in events if isinstance(step.event, StepDone)}
    values = [value for step in outputs.values() for value in _numbers(step.output)]
    for path in WINES:
        assert near(mean(column(path, "alcohol", ";"))) in values
    assert [artifact.name for artifact in done.artifacts] == ["report.md"]


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, float) else []


def test_run_5_takes_no_lesson_from_another_kind_of_zero(story: dict[str, list[Observed]]) -> None:
    done = the_end(story["5"])
    truth = mean(column(DATA / "seattle-weather.csv", "precipitation", ","))
    assert (done.outcome, done.result, done.attempts, done.lessons_used) == ("succeeded", near(truth), 1, [])


def test_run_6_learns_only_what_an_unchecked_success_can_confirm(story: dict[str, list[Observed]]) -> None:
    done = the_end(story["6"])
    assert (done.outcome, done.result, done.checked, done.attempts) == (
        "succeeded",
        near(mean(column(AIR, "CO(GT)", ";"))),
        False,
        2,
    )
    assert list(lessons(story["6"]).values()) == [{"args": {"table": {"read": {"decimal": ","}}}}]


def test_two_executors_finish_run_4_over_blobs_on_s3(
    folder: Path, kafka: str, mongo: str, redis_url: str, s3: str
) -> None:
    blobs = {"RAA_BLOBS_URL": f"s3://{BUCKET}/e2e?endpoint={s3}&region=eu-west-1", "RAA_PARALLEL_STEPS": "4"}
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": ACCESS_KEY}
    described = apart(folder / "s3", kafka=kafka, mongo=mongo, redis_url=redis_url, deployment="s3", extra=blobs | keys)
    with pytest.MonkeyPatch.context() as here, running(described) as house:
        for name, value in keys.items():
            here.setenv(name, value)
        asyncio.run(run(house, task("run-4", REPORT), WINES))
        events = asyncio.run(told(house, "run-4", "default"))
        check_report(events)
