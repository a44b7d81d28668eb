import re

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from raa_schemas.pattern import OutOfSteps, Pattern, PatternError

atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\.", "[a-c0-9]", "^", "$"])
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(
            lambda part, sign: f"(?:{part}){sign}", inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"])
        ),
        st.builds(lambda one, other: one + other, inner, inner),
        st.builds(lambda one, other: f"({one}|{other})", inner, inner),
    ),
    max_leaves=6,
)


@given(patterns, st.text(alphabet="abc1.", max_size=8))
def test_finds_what_a_backtracking_engine_finds(pattern: str, text: str) -> None:
    try:
        mine = Pattern(pattern)
    except PatternError:
        reject()  # too many states
    assert mine.found_in(text) is (re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "not closed"),
        ("*a", "repeats nothing"),
        ("a**", "cannot be repeated"),
        ("a{3,2}", "smaller number first"),
        ("a{101}", "0 to 100"),
        ("a{x}", "{n,m}"),
        (r"(a)\1", "not known"),
        ("(?=a)", "no look-around"),
        ("[b-a]", "is empty"),
        (r"a\q", "not known"),
        ("((a{100}){100}){100}", "more than 400 states"),
        ("a\\", "not known"),
        ("(" * 21 + ")" * 21, "deeper"),
    ],
)
def test_unusable_pattern_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(PatternError, match=re.escape(says)):
        Pattern(pattern)


def test_steps_are_bounded() -> None:
    with pytest.raises(OutOfSteps):
        Pattern("(a?b?){50}c").found_in("ab" * 5_000, steps=1_000)
