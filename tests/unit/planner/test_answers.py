"""What models really send, and what is read of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_planner.domain.answers import Cannot, Garbage, Planned, read_answer

PLAN = {"steps": [{"id": "a", "tool": "calculate", "args": {"expression": "1"}}], "result": {"ref": "a"}}
TEXT = json.dumps(PLAN)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"```json\n{TEXT}\n```",
        f"Here is the plan:\n\n{TEXT}\n\nI hope it helps {{really}}.",
        f'<think>Maybe {{"steps": []}}? No.</think>{TEXT}',
        f'First {{"note": 1}} and then {TEXT}',
        f'{{"steps": []}} no, better: {TEXT}',
    ],
)
def test_a_plan_is_found_whatever_stands_around_it(text: str):
    answer = read_answer(text)
    assert isinstance(answer, Planned)
    assert answer.plan.steps[0].tool == "calculate"
    assert answer.plan.origin == "model"


def test_a_plain_cannot_is_understood():
    assert read_answer('{"cannot": "it asks for a forecast"}') == Cannot("it asks for a forecast")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON object"),
        ("I would rather not.", "no JSON object"),
        ('{"steps": []}', "steps"),
        ('{"steps": [{"id": "1 bad", "tool": "x"}]}', "steps.0.id"),
        ('{"steps": [{"id": "a", "tool": "x", "args": {"v": NaN}}]}', "no JSON object"),
        ('{"steps": [{"id": "a", "tool": "x", "args": {"v": "\\ud800"}}]}', ""),
        ("{" * 10_000, "no JSON object"),
        ('{"a":' * 50_000, "no JSON object"),
        ("x" * 300_000, "characters"),
    ],
)
def test_garbage_says_what_is_wrong(text: str, told: str):
    answer = read_answer(text)
    assert isinstance(answer, Garbage)
    assert told in answer.reason


def test_cited_lessons_are_read_and_nonsense_among_them_left_out():
    answer = read_answer(json.dumps(PLAN | {"lessons": ["les_1", 3]}))
    assert isinstance(answer, Planned)
    assert answer.plan.lessons == ["les_1"]


@given(
    st.text()
    | st.recursive(
        st.none() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["steps", "cannot", "result", "id", "tool", "args"]), inner)
        ),
    ).map(json.dumps)
)
def test_no_answer_makes_the_reader_raise(text: str):
    assert isinstance(read_answer(text), Planned | Cannot | Garbage)
