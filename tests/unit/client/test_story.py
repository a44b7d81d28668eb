"""The story of a task, folded from its events."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_client.story import check_sentence, fold_story, lessons_cited
from raa_schemas.event import Event
from raa_schemas.reflection import CheckReport
from tests.unit.client.told import LESSON, observed, recovery


def _events() -> Sequence[Event]:
    return recovery()


def test_each_plan_says_how_it_ended_and_why():
    story = fold_story(observed(_events()))
    assert [attempt.state for attempt in story.attempts] == ["failed", "rejected", "succeeded"]
    assert story.attempts[0].why_ended == "step mean failed: not_numeric, 7 of 9 values are not numbers"
    assert story.attempts[1].why_ended == "safety rejected the plan: the steps form a circle"
    assert story.attempts[2].why_ended == "the check 'result >= 0' holds"
    assert [attempt.executed for attempt in story.attempts] == [True, False, True]


def test_steps_carry_what_they_wait_for_and_what_they_gave():
    profile, mean = fold_story(observed(_events())).attempts[2].steps
    assert (profile.outcome, profile.needs) == ("succeeded", [])
    assert (mean.outcome, mean.needs, mean.output) == ("succeeded", ["profile"], 2.5)


def test_lessons_learned_come_with_their_evidence():
    (learned,) = fold_story(observed(_events())).attempts[2].lessons_learned
    assert (learned.id, learned.evidence) == ("les_1", ["failed at v1/mean", "held at v2/mean"])


def test_a_lesson_from_elsewhere_gets_its_words_from_those_who_know_it():
    events = observed(_events())
    assert lessons_cited(events) == ["les_0"]
    assert fold_story(events).attempts[2].lessons_used[0].text is None
    known = {"les_0": LESSON.model_copy(update={"id": "les_0"})}
    assert fold_story(events, known).attempts[2].lessons_used[0].text == LESSON.text


def test_safety_s_decisions_are_told_in_order():
    decisions = fold_story(observed(_events())).decisions
    assert [(one.about, one.decision) for one in decisions] == [
        ("plan 1", "verified"), ("plan 2", "rejected"), ("plan 3", "verified"),
    ]  # fmt: skip


@given(st.permutations(range(14)), st.sets(st.integers(0, 13)))
def test_the_story_does_not_depend_on_the_order_or_on_copies(order: list[int], copied: set[int]):
    events = observed(_events())
    shuffled = [events[place] for place in order] + [events[place] for place in copied]
    assert fold_story(shuffled) == fold_story(events)


@given(st.integers(1, 14))
def test_every_beginning_of_a_task_has_a_story_that_is_json(length: int):
    story = fold_story(observed(_events()[:length]))
    assert json.loads(json.dumps(story.to_json()))["task_id"] == "t1"
    assert all(attempt.why_ended for attempt in story.attempts)


def test_a_task_without_events_has_no_story():
    with pytest.raises(ValueError, match="no story"):
        fold_story([])


def test_a_failed_check_says_the_value_that_failed_it():
    atom = {"path": "result", "op": ">=", "bound": 0, "actual": -3.5}
    said = check_sentence(CheckReport(check="result >= 0", value=False, failed_atom=atom))
    assert said == "the check 'result >= 0' fails: result is -3.5"
    assert "is missing" in check_sentence(CheckReport(check="result.x > 0", value=False, reason="result.x is missing"))
