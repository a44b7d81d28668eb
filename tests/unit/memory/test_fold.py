"""What many deltas amount to."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_memory.domain.episode import Delta
from raa_memory.domain.fold import contradicts, fold
from raa_schemas.reflection import Lesson
from tests.unit.memory.lessons import delta, lesson

COMMA, POINT = lesson({"read": {"decimal": ","}}), lesson({"read": {"decimal": "."}})


def test_one_task_makes_a_candidate_and_a_second_task_a_trial():
    assert fold([delta(COMMA)])[COMMA.id].lesson.state == "candidate"
    twice = fold([delta(COMMA, "t1"), delta(COMMA, "t2", 5)])[COMMA.id]
    assert (twice.lesson.state, twice.tasks) == ("trial", 2)
    assert [one.task_id for one in twice.support] == ["t1", "t2"]


def test_two_attempts_of_one_task_are_the_support_of_one_task():
    found = fold([delta(COMMA, "t1"), delta(COMMA, "t1", 5)])[COMMA.id]
    assert (found.lesson.state, found.tasks) == ("candidate", 1)


def test_the_newer_of_two_contradictory_lessons_stays_and_the_other_names_it():
    learned = fold([delta(COMMA, "t1"), delta(POINT, "t2", 5)])
    assert learned[POINT.id].usable
    assert learned[COMMA.id].lesson.state == "quarantined"
    assert learned[COMMA.id].contradicted_by == POINT.id


def test_a_quarantined_lesson_that_is_confirmed_again_comes_back():
    learned = fold([delta(COMMA, "t1"), delta(POINT, "t2", 5), delta(COMMA, "t3", 9)])
    assert (learned[COMMA.id].usable, learned[POINT.id].usable) == (True, False)


def test_a_lesson_in_quarantine_contradicts_nobody():
    third = lesson({"read": {"decimal": ";", "thousands": "."}})
    other = lesson({"read": {"thousands": ","}})
    learned = fold([delta(other, "t1"), delta(third, "t2", 5), delta(COMMA, "t3", 9)])
    assert [learned[one.id].usable for one in (other, third, COMMA)] == [True, False, True]


def test_two_files_of_one_shape_support_one_lesson():
    there = lesson({"read": {"decimal": ","}}, sha="bb", name=COMMA.id)
    found = fold([delta(COMMA, "t1"), delta(there, "t2", 5)])[COMMA.id]
    assert (found.lesson.state, found.sources) == ("trial", frozenset({"aa", "bb"}))


def test_a_lesson_contradicted_on_one_of_its_files_stands_on_the_other():
    there = lesson({"read": {"decimal": ","}}, sha="bb", name=COMMA.id)
    learned = fold([delta(COMMA, "t1"), delta(there, "t2", 5), delta(POINT, "t3", 9)])
    assert (learned[COMMA.id].usable, learned[COMMA.id].sources) == (True, frozenset({"bb"}))
    assert (learned[POINT.id].usable, learned[POINT.id].sources) == (True, frozenset({"aa"}))


@pytest.mark.parametrize(
    "other",
    [
        lesson({"read": {"decimal": "."}}, sha="bb"),
        lesson({"read": {"decimal": "."}}, tool="table.profile"),
        lesson({"read": {"thousands": "."}}),
    ],
)
def test_lessons_about_another_input_tool_or_argument_do_not_contradict(other: Lesson):
    assert all(one.usable for one in fold([delta(COMMA, "t1"), delta(other, "t2", 5)]).values())


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 2}, True),
        ({"a": 1}, {"a": 1}, False),
        ({"a": 1}, {"b": 2}, False),
        ({"a": [1]}, {"a": [2]}, False),
        ({"a": [1]}, {"a": 1}, True),
        ({"a": {"b": 1}}, {"a": 1}, True),
        ({"a": None}, {"a": 1}, True),
        ({"a": {"b": {"c": "x"}}}, {"a": {"b": {"c": "y"}, "d": 1}}, True),
        ({"a": 1}, {"a": True}, True),
    ],
)
def test_patches_contradict_where_they_set_one_argument_differently(
    one: dict[str, Any], other: dict[str, Any], expected: bool
):
    assert contradicts(one, other) is expected
    assert contradicts(other, one) is expected


def test_a_delta_that_says_something_else_under_the_same_id_is_no_support():
    forged = lesson({"read": {"decimal": ";"}}, name=COMMA.id)
    found = fold([delta(forged, "t1"), delta(COMMA, "t2", 5)])[COMMA.id]
    assert (found.tasks, found.lesson.then) == (1, COMMA.then)


def test_a_newest_delta_can_take_a_lesson_out_of_use_until_it_is_confirmed_again():
    retired = COMMA.model_copy(update={"state": "retired"})
    deltas = [delta(COMMA, "t1"), delta(retired, "t2", 5)]
    assert not fold(deltas)[COMMA.id].usable
    assert fold([*deltas, delta(COMMA, "t3", 9)])[COMMA.id].usable


def test_an_unknown_kind_is_left_alone():
    assert fold([delta(lesson(kind="dance")), delta(COMMA)]).keys() == {COMMA.id}


LESSONS = [lesson({"read": {"decimal": sign}}, sha=sha, name=f"les_{sign}") for sign in ",.;" for sha in ("aa", "bb")]
LESSONS += [lesson({"read": {"decimal": sign}}, sha=None) for sign in ",."]
LESSONS += [lesson({"read": {"missing": [number], "decimal": sign}}) for number in (-1, -2) for sign in ",."]
LESSONS += [lesson({"x": 1}, name=LESSONS[0].id), COMMA.model_copy(update={"state": "retired"}), lesson(kind="dance")]
DELTAS = st.lists(
    st.builds(delta, st.sampled_from(LESSONS), st.sampled_from(["t1", "t2", "t3"]), st.integers(0, 3)), max_size=12
)


@given(DELTAS, st.randoms(use_true_random=False))
def test_the_order_in_which_deltas_arrive_does_not_matter(deltas: list[Delta], chance: random.Random):
    shuffled = list(deltas)
    chance.shuffle(shuffled)
    assert fold(shuffled) == fold(deltas)


@given(DELTAS)
def test_a_delta_that_arrives_twice_counts_once(deltas: list[Delta]):
    assert fold(deltas + deltas[::2]) == fold(deltas)


@given(DELTAS)
def test_no_two_usable_lessons_on_one_file_contradict_and_every_quarantine_has_a_reason(deltas: list[Delta]):
    learned = fold(deltas)
    for one in learned.values():
        if one.contradicted_by:
            assert learned[one.contradicted_by].usable
            assert learned[one.contradicted_by].confirmed_at >= one.confirmed_at
        for other in learned.values():
            same_place = one.sources & other.sources and one.lesson.scope == other.lesson.scope
            if one is not other and same_place and one.usable and other.usable:
                assert not contradicts(one.lesson.then, other.lesson.then)
