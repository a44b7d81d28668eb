from hypothesis import given
from hypothesis import strategies as st

from raa_schemas.errors import error
from raa_schemas.plan import Step
from tests.unit.reflector.stories import Story, not_numeric, profile, profiled, query, rows, source, suspects

A, B = source("a.csv"), source("b.csv", "2")
COMMA = not_numeric("x", ("9,9", 10, "2,6"))


def difference(first: str, second: str) -> Step:
    return Step(
        id="diff",
        tool="calculate",
        args={
            "expression": "a - b",
            "values": {"a": {"ref": first, "path": "/rows/0/mean"}, "b": {"ref": second, "path": "/rows/0/mean"}},
        },
    )


def test_values_that_look_real_end_the_task_with_a_reason() -> None:
    story = Story(A, check="result >= 0")
    story.attempt([query("a.csv", "x")], {"q": rows(-3)}, value=-3)
    told = story.attempt(
        [profile("a.csv", "x"), query("a.csv", "x", {"missing": suspects()})],
        {"profile": profiled("x", [], low=-9.5, high=4), "q": rows(-3)},
        value=-3,
    )
    assert (told.verdict, told.hypotheses, told.lessons) == ("give_up", [], [])
    assert "values below 0 in x are spread over 97 distinct values, -9.5 to 4" in told.reason
    assert "they look real" in told.reason


def test_a_suspect_whose_removal_does_not_help_is_not_learned() -> None:
    story = Story(A, check="result >= 0")
    story.attempt([query("a.csv", "x")], {"q": rows(-3)}, value=-3)
    told = story.attempt(
        [profile("a.csv", "x"), query("a.csv", "x", {"missing": suspects()})],
        {"profile": profiled("x", [0]), "q": rows(-5)},
        value=-5,
    )
    assert (told.verdict, told.lessons) == ("give_up", [])
    assert "leaving out 0 in a.csv does not make it hold" in told.reason


def test_a_plan_that_counted_on_suspects_there_are_not_ends_with_the_same_reason() -> None:
    story = Story(A, check="result >= 0")
    story.attempt([query("a.csv", "x", {"missing": ["NA"]})], {"q": rows(-3)}, value=-3)
    first = {"ref": "profile", "path": "/columns/0/suspects/0"}
    told = story.attempt(
        [profile("a.csv", "x"), query("a.csv", "x", {"missing": ["NA", first]})],
        {"profile": profiled("x", []), "q": error("unbound_reference")},
    )
    assert (told.verdict, told.hypotheses) == ("give_up", [])
    assert "they look real" in told.reason


def test_suspects_of_one_column_are_left_out_although_another_has_none() -> None:
    story = Story(A, check="result >= 0")
    step = query("a.csv", "x")
    both = step.model_copy(
        update={
            "args": step.args
            | {"select": [{"fn": "mean", "column": "x", "as": "mean"}, {"fn": "mean", "column": "y", "as": "mean"}]}
        }
    )
    story.attempt([both], {"q": rows(-3)}, value=-3)
    refs = [{"ref": "profile", "path": f"/columns/{place}/suspects/0"} for place in (0, 1)]
    table = {"table": {"file": "a.csv", "read": {"missing": refs}}}
    looked = {"columns": [*profiled("x", [-99])["columns"], *profiled("y", [])["columns"]]}
    told = story.attempt(
        [profile("a.csv", "x"), both.model_copy(update={"args": both.args | table})],
        {"profile": looked, "q": error("unbound_reference")},
    )
    assert told.verdict == "replan"
    assert told.hypotheses[0].then == {"args": {"table": {"read": {"missing": [-99]}}}}


def test_suspects_that_the_plan_ignored_are_proposed_as_missing_values() -> None:
    story = Story(A, check="result >= 0")
    told = story.attempt(
        [profile("a.csv", "x"), query("a.csv", "x")], {"profile": profiled("x", [-200]), "q": rows(-5)}, value=-5
    )
    assert told.verdict == "replan"
    assert told.hypotheses[0].then == {"args": {"table": {"read": {"missing": [-200]}}}}
    done = story.attempt([query("a.csv", "x", {"missing": [-200]})], {"q": rows(5)}, value=5)
    assert [lesson.then for lesson in done.lessons] == [{"args": {"table": {"read": {"missing": [-200]}}}}]


def test_a_bound_on_a_computed_value_is_followed_to_every_file_behind_it() -> None:
    story = Story(A, B, check="result.gap <= 10")
    told = story.attempt(
        [query("a.csv", "x", step="one"), query("b.csv", "y", step="two"), difference("one", "two")],
        {"one": rows(50), "two": rows(1), "diff": {"value": 49}},
        result={"gap": {"ref": "diff", "path": "/value"}},
        value={"gap": 49},
    )
    assert [(item.file, item.columns) for item in told.hypotheses] == [("a.csv", ["x"]), ("b.csv", ["y"])]


def test_only_the_aggregate_behind_the_bound_is_inspected() -> None:
    story = Story(A, check="result.low >= 0")
    step = Step(
        id="q",
        tool="table.query",
        args={
            "table": {"file": "a.csv"},
            "select": [{"fn": "min", "column": "x", "as": "low"}, {"fn": "max", "column": "y", "as": "high"}],
        },
    )
    told = story.attempt(
        [step],
        {"q": {"rows": [{"low": -1, "high": 5}]}},
        result={"ref": "q", "path": "/rows/0"},
        value={"low": -1, "high": 5},
    )
    assert [item.columns for item in told.hypotheses] == [["x"]]


def test_a_count_outside_its_bound_suggests_no_look_at_values() -> None:
    story = Story(A, check="result > 100")
    count = query("a.csv", "x", fn="count")
    result = {"ref": "q", "path": "/rows/0/count"}
    first = story.attempt([count], {"q": rows(3, "count")}, result=result, value=3)
    assert (first.verdict, first.hypotheses) == ("replan", [])
    second = story.attempt([count], {"q": rows(3, "count")}, result=result, value=3)
    assert second.verdict == "give_up"


def test_nothing_is_inspected_where_profiles_are_not_allowed() -> None:
    story = Story(A, check="result >= 0")
    told = story.attempt([query("a.csv", "x")], {"q": rows(-3)}, value=-3, allowed_tools=["table.query"])
    assert (told.verdict, told.hypotheses) == ("give_up", [])
    assert "not allowed" in told.reason


def test_the_same_proposal_is_never_made_twice() -> None:
    story = Story(A, check="result >= 0")
    assert story.attempt([query("a.csv", "x")], {"q": rows(-3)}, value=-3).hypotheses
    again = story.attempt([query("a.csv", "x", {})], {"q": rows(-3)}, value=-3)
    assert (again.verdict, again.hypotheses) == ("give_up", [])
    assert "already proposed" in again.reason


def test_an_error_that_comes_back_ends_the_task() -> None:
    story = Story(A)
    failure = error("tool_error", "the server said no")
    step = Step(id="fetch", tool="shop.fetch", args={"page": 1})
    assert story.attempt([step], {"fetch": failure}).verdict == "replan"
    assert story.attempt([step.model_copy(update={"args": {"page": 2}})], {"fetch": failure}).verdict == "give_up"


def test_errors_that_no_plan_can_mend_end_the_task_at_once() -> None:
    for code in ("empty_file", "grant_denied", "claim_gone"):
        told = Story(A).attempt([query("a.csv", "x")], {"q": error(code)})
        assert (told.verdict, told.hypotheses) == ("give_up", [])


def test_an_unknown_outcome_is_never_planned_again() -> None:
    told = Story(A).attempt(
        [Step(id="pay", tool="bank.pay", args={})],
        {"pay": error("outcome_unknown")},
        outcomes={"pay": "outcome_unknown"},
    )
    assert told.verdict == "give_up"


def test_an_unknown_column_proposes_the_nearest_one() -> None:
    near = error("unknown_column", "the table has no column 'prise'", column="prise", near=["price"], columns=["price"])
    told = Story(A).attempt([query("a.csv", "prise")], {"q": near})
    assert told.verdict == "replan"
    assert (told.hypotheses[0].kind, told.hypotheses[0].columns) == ("adjust_arguments", ["price"])


def test_a_renamed_column_is_no_lesson() -> None:
    story = Story(A)
    story.attempt([query("a.csv", "prise")], {"q": error("unknown_column", column="prise", near=["price"])})
    assert story.attempt([query("a.csv", "price")], {"q": rows(3)}, value=3).lessons == []


def test_parallel_failures_are_explained_together() -> None:
    story = Story(A, B)
    steps = [query("a.csv", "x", step="one"), query("b.csv", "y", step="two"), difference("one", "two")]
    first = story.attempt(steps, {"one": COMMA, "two": COMMA})
    assert [item.file for item in first.hypotheses] == ["a.csv", "b.csv"]
    read = {"decimal": ","}
    fixed = [query("a.csv", "x", read, step="one"), query("b.csv", "y", read, step="two"), difference("one", "two")]
    second = story.attempt(
        fixed, {"one": rows(2), "two": rows(1), "diff": {"value": 1}}, result={"ref": "diff", "path": "/value"}, value=1
    )
    assert {lesson.when.source_sha256 for lesson in second.lessons} == {A.sha256, B.sha256}


def test_a_step_that_was_mended_teaches_even_if_another_step_fails_the_run() -> None:
    story = Story(A, B)
    steps = [query("a.csv", "x", step="one"), query("b.csv", "y", step="two")]
    story.attempt(steps, {"one": COMMA})
    steps = [query("a.csv", "x", {"decimal": ","}, step="one"), query("b.csv", "y", step="two")]
    second = story.attempt(steps, {"one": rows(2), "two": COMMA})
    assert second.verdict == "replan"
    assert [lesson.evidence.fixed for lesson in second.lessons] == [["v2/one"]]


def test_one_error_about_sign_group_and_mark_is_mended_in_one_step() -> None:
    shapes = not_numeric("x", ("9.9,9", 50, "1.234,5"), ("9,9", 200, "12,5"), ("a", 4, "NA"))
    shapes.details["shapes"][0]["grouped"] = 50
    story = Story(A)
    first = story.attempt([query("a.csv", "x", {"missing": ["-"]})], {"q": shapes})
    read = {"decimal": ",", "thousands": ".", "missing": ["NA"]}
    assert first.hypotheses[0].then == {"args": {"table": {"read": read}}}
    second = story.attempt([query("a.csv", "x", read | {"missing": ["-", "NA"]})], {"q": rows(3)}, value=3)
    assert second.lessons[0].then == {"args": {"table": {"read": read}}}
    assert len(second.lessons[0].text.split()) <= 60


def test_a_lesson_keeps_only_what_the_error_asked_for() -> None:
    story = Story(A)
    story.attempt([query("a.csv", "x")], {"q": COMMA})
    second = story.attempt(
        [query("a.csv", "x", {"decimal": ",", "encoding": "latin-1", "missing": [-1]})], {"q": rows(3)}, value=3
    )
    assert [lesson.then for lesson in second.lessons] == [{"args": {"table": {"read": {"decimal": ","}}}}]


def test_a_check_that_another_filter_made_hold_teaches_nothing() -> None:
    story = Story(A, check="result >= 0")
    story.attempt([query("a.csv", "x")], {"q": rows(-3)}, value=-3)
    step = query("a.csv", "x", {"missing": [-200]})
    filtered = step.model_copy(update={"args": step.args | {"where": [{"column": "x", "op": ">", "value": 0}]}})
    assert story.attempt([filtered], {"q": rows(3)}, value=3).lessons == []


def test_an_error_that_may_go_away_by_itself_teaches_nothing() -> None:
    story = Story(A)
    story.attempt([query("a.csv", "x")], {"q": error("tool_timeout")})
    assert story.attempt([query("a.csv", "x", {"encoding": "utf-8"})], {"q": rows(3)}, value=3).lessons == []


def test_a_column_of_words_is_not_declared_missing() -> None:
    words = not_numeric("species", ("a", 150, "setosa"))
    told = Story(A).attempt([query("a.csv", "species")], {"q": words})
    assert (told.verdict, told.hypotheses) == ("replan", [])


def test_rare_words_among_numbers_are_marks_for_missing() -> None:
    words = not_numeric("x", ("a", 4, "lost")).model_copy(update={"message": "4 of 150 values of x are not numbers"})
    told = Story(A).attempt([query("a.csv", "x")], {"q": words})
    assert told.hypotheses[0].then == {"args": {"table": {"read": {"missing": ["lost"]}}}}


def test_decimals_that_look_like_groups_are_proposed_with_both_signs_and_learned_with_one() -> None:
    ambiguous = not_numeric("x", ("9,9", 10, "1,234"))
    ambiguous.details["shapes"][0]["grouped"] = 10
    story = Story(A)
    told = story.attempt([query("a.csv", "x")], {"q": ambiguous})
    assert told.hypotheses[0].then == {"args": {"table": {"read": {"decimal": ",", "thousands": None}}}}
    fixed = story.attempt([query("a.csv", "x", {"decimal": ","})], {"q": rows(1.2)}, value=1.2)
    assert fixed.lessons[0].then == {"args": {"table": {"read": {"decimal": ","}}}}


def test_groups_in_a_comma_separated_file_are_no_decimals() -> None:
    story = Story(source("a.csv", delimiter=","))
    grouped = not_numeric("x", ("9,9", 10, "1,234"))
    grouped.details["shapes"][0]["grouped"] = 10
    told = story.attempt([query("a.csv", "x")], {"q": grouped})
    assert told.hypotheses[0].then == {"args": {"table": {"read": {"decimal": ".", "thousands": ","}}}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ref", "path", "file", "read", "shapes", "shape", "columns", "name"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["table", "select", "values"]), json_values, max_size=3),
    json_values,
    st.dictionaries(st.sampled_from(["shapes", "near", "column"]), json_values, max_size=3),
    st.booleans(),
)
def test_strange_plans_and_outputs_are_judged_all_the_same(
    args: dict[str, object], output: object, details: dict[str, object], fails: bool
) -> None:
    story = Story(A, check="result >= 0")
    steps = [Step(id="p", tool="table.profile", args=args), Step(id="q", tool="table.query", args=args)]
    end = error("not_numeric").model_copy(update={"details": details}) if fails else output
    for _ in range(2):
        told = story.attempt(steps, {"p": output, "q": end}, result={"ref": "q", "path": ""}, value=output)
        assert told.reason
