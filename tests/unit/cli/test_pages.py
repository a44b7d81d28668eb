"""The page of a task, the picture of its plan, and the lines of its timeline."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_cli.plan_picture import draw_plan
from raa_cli.story_page import page
from raa_cli.timeline import line_of
from raa_client.story import StepStory, fold_story
from raa_schemas.errors import error
from raa_schemas.event import Event
from raa_schemas.step import StepDone
from raa_schemas.task import TaskCreated, TaskDone
from raa_schemas.topics import TOPICS
from tests.unit.client.told import observed, recovery

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader


def _hostile() -> list[Event]:
    """Tell of a task whose every text tries to become markup."""
    created = TaskCreated(task_id="t1", goal=HOSTILE, success_check=HOSTILE)
    failed = StepDone(task_id="t1", plan_version=1, step="mean", tool=HOSTILE, run_seq=1, run_status="failed",
                      outcome="failed", error=error(HOSTILE, HOSTILE), output=HOSTILE)  # fmt: skip
    done = TaskDone(task_id="t1", outcome="failed", error=error(HOSTILE, HOSTILE))
    return [created, *recovery()[1:4], failed, *recovery()[5:12], done]


@pytest.mark.parametrize("events", [recovery(), _hostile(), recovery()[:1], recovery()[:4]])
def test_a_page_loads_nothing_and_runs_nothing(events: list[Event]):
    text = page(fold_story(observed(events)))
    read = _read(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in {"src", "href", "srcset"}]
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_a_page_tells_attempts_steps_lessons_and_decisions():
    text = page(fold_story(observed(recovery())))
    told_of = (
        "Attempt 1",
        "Plan 2, not executed",
        "the steps form a circle",
        "7 of 9 values are not numbers",
        "Numbers use a decimal comma.",
        "failed at v1/mean",
        "What safety decided",
        "table.profile",
    )
    for told in told_of:
        assert told in text


@given(st.text(max_size=200))
def test_any_goal_stays_text(goal: str):
    created, *rest = recovery()
    plain = _read(page(fold_story(observed([created, *rest]))))
    other = _read(page(fold_story(observed([created.model_copy(update={"goal": f"x{goal}"}), *rest]))))
    assert other.tags == plain.tags


def _step(name: str, *needs: str) -> StepStory:
    return StepStory(name, "tool", {}, list(needs), "planned")


def _places(svg: str) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in re.findall(r'<rect x="(\d+)" y="(\d+)"', svg)]


def test_steps_stand_right_of_what_they_wait_for_and_beside_what_runs_in_parallel():
    svg = draw_plan([_step("a"), _step("b"), _step("c", "a", "b")], "p")
    (ax, ay), (bx, by), (cx, _) = _places(svg)
    assert ax == bx < cx
    assert ay != by
    assert svg.count('class="edge"') == 2


def test_a_plan_with_a_circle_or_an_unknown_step_can_be_drawn():
    assert len(_places(draw_plan([_step("a", "b"), _step("b", "a"), _step("c", "nobody")], "p"))) == 3


@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=10))
def test_no_two_steps_of_any_plan_share_a_place(needs: list[set[int]]):
    steps = [_step(f"s{number}", *(f"s{need}" for need in before)) for number, before in enumerate(needs)]
    places = _places(draw_plan(steps, "p"))
    assert len(set(places)) == len(steps)


def test_every_event_an_observer_sees_has_words():
    told = {type(event) for event in recovery()}
    assert all(line_of(event).text for event in recovery())
    assert told <= {topic.event for topic in TOPICS.values()}
