"""Compares what happened in a run with what had to happen; says every difference."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raa_cli.demo.scenario import Attempt, Reading, Run
from raa_client.story import AttemptStory, LessonStory, Story

DECIMALS: Final = 4
Truth = Callable[[Reading], float]


@dataclass(frozen=True)
class Verdict:
    """One line of the final table."""

    run: Run
    task_id: str
    attempts: int
    got: str
    expected: str
    truth: str
    used: int
    learned: int
    checked: bool
    differences: Sequence[str]

    @property
    def right(self) -> bool:
        """Say whether everything is as required."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Write it as one JSON object."""
        return {
            "run": self.run.name, "task_id": self.task_id, "goal": self.run.goal, "attempts": self.attempts,
            "result": self.got, "expected": self.expected, "truth": self.truth, "lessons_used": self.used,
            "lessons_learned": self.learned, "checked": self.checked, "right": self.right,
            "differences": list(self.differences),
        }  # fmt: skip


def judge(run: Run, story: Story, artifact: str | None, truth: Truth) -> Verdict:
    """Judge one run; `artifact` is the text of the file it had to write, None if there is none."""
    done = story.done
    expected = [_figure(truth(reading)) for reading in run.means]
    got = _got(run, story, artifact, expected)
    true = _figure(truth(run.truth)) if run.truth else " / ".join(expected)
    return Verdict(
        run, story.task_id, done.attempts if done else 0, got, " / ".join(expected), true,
        len(done.lessons_used) if done else 0, len(done.lessons_learned) if done else 0, bool(done and done.checked),
        list(_differences(run, story, got, artifact, expected, truth)),
    )  # fmt: skip


def _differences(
    run: Run, story: Story, got: str, artifact: str | None, expected: Sequence[str], truth: Truth
) -> Iterator[str]:
    done = story.done
    if done is None or done.outcome != "succeeded":
        why = f": {done.error.message}" if done and done.error else ""
        yield f"it ended as {story.state}, not as succeeded{why}"
        return
    executed = [attempt for attempt in story.attempts if attempt.executed]
    if len(executed) != len(run.attempts) or done.attempts != len(run.attempts):
        yield f"{done.attempts} attempts, not {len(run.attempts)}"
    if got != " / ".join(expected):
        yield f"the result is {got}, not {' / '.join(expected)}"
    if done.checked is not run.checked:
        yield f"checked is {done.checked}, not {run.checked}"
    if run.artifact and artifact is None:
        yield f"it wrote no {run.artifact}"
    if executed and _parallel(executed[-1]) < run.parallel:
        yield f"fewer than {run.parallel} steps could run in parallel"
    if run.cites is not None:
        yield from _lessons("cited", executed[-1].lessons_used if executed else [], run.cites)
    for number, (wanted, attempt) in enumerate(zip(run.attempts, executed, strict=False), 1):
        yield from (f"attempt {number}: {text}" for text in _attempt(wanted, attempt, truth))
    learned = [lesson for wanted in run.attempts for lesson in wanted.learns]
    if len(done.lessons_learned) != len(learned):
        yield f"task.done names {len(done.lessons_learned)} lessons learned, not {len(learned)}"


def _attempt(wanted: Attempt, attempt: AttemptStory, truth: Truth) -> Iterator[str]:
    codes = {step.error_code for step in attempt.steps if step.error_code}
    if codes != ({wanted.error} if wanted.error else set()):
        yield f"its errors are {sorted(codes) or 'none'}, not {wanted.error or 'none'}"
    if wanted.fails_check_at and not (
        attempt.check_held is False and _figure(attempt.check_actual) == _figure(truth(wanted.fails_check_at))
    ):
        yield f"the check should fail at {_figure(truth(wanted.fails_check_at))}; {attempt.why_ended}"
    yield from _lessons("learned", attempt.lessons_learned, wanted.learns)
    for change in wanted.applies:
        if not any(_holds(step.args, change) for step in attempt.steps):
            yield f"no step applies {json.dumps(change)}"


def _lessons(what: str, lessons: Sequence[LessonStory], wanted: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(lessons) != len(wanted):
        yield f"{len(lessons)} lessons {what}, not {len(wanted)}"
    for change in wanted:
        if not any(_holds(lesson.then.get("args"), change) for lesson in lessons):
            yield f"no lesson {what} that says {json.dumps(change)}"


def _holds(whole: Any, part: Any) -> bool:
    """Say whether a JSON value holds another: objects by key, lists by item."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(key in whole and _holds(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(item in whole for item in part)
    return bool(whole == part)


def _got(run: Run, story: Story, artifact: str | None, expected: Sequence[str]) -> str:
    """Give the figures a run came to: its result, or those of the expected ones that stand in its file."""
    if run.artifact is None:
        return _figure(story.done.result if story.done else None)
    return " / ".join(figure if artifact and figure in artifact else "absent" for figure in expected)


def _figure(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.{DECIMALS}f}" if number else json.dumps(value, default=str)[:40]


def _parallel(attempt: AttemptStory) -> int:
    """Count the steps that wait for nothing."""
    return sum(not step.needs for step in attempt.steps)
