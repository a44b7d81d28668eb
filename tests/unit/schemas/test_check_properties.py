import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raa_schemas.check import Check, CheckSyntaxError, evaluate, parse_check, render
from raa_schemas.check_syntax import (
    All,
    AnyOf,
    Call,
    Chain,
    Comparison,
    Constant,
    ListOf,
    Negative,
    Node,
    Not,
    Path,
)

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
texts = st.text(max_size=8)
numbers = st.integers(min_value=0, max_value=10**6) | st.floats(min_value=0, max_value=1e9)
constants = st.builds(Constant, numbers | texts | st.booleans() | st.none())
parts = st.lists(names | texts | st.integers(min_value=0, max_value=9), max_size=3).map(tuple)
paths = st.builds(Path, st.sampled_from(["result", "artifacts"]), parts) | st.builds(
    lambda step, rest: Path("outputs", (step, *rest)), names, parts
)


def extend(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3).map(tuple)
    rest = st.lists(st.tuples(st.sampled_from("+-"), nodes), min_size=1, max_size=2).map(tuple)
    product = st.lists(st.tuples(st.sampled_from("*/"), nodes), min_size=1, max_size=2).map(tuple)
    return st.one_of(
        st.builds(ListOf, st.lists(nodes, max_size=2).map(tuple)),
        st.builds(lambda node: Call("abs", (node,)), nodes),
        st.builds(lambda items: Call("min", items), several),
        st.builds(lambda path: Call("exists", (path,)), paths),
        st.builds(Negative, nodes),
        st.builds(Chain, nodes, rest),
        st.builds(Chain, nodes, product),
        st.builds(Comparison, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in"]), nodes, nodes),
        st.builds(Not, nodes),
        st.builds(All, several),
        st.builds(AnyOf, several),
    )


trees = st.recursive(constants | paths, extend, max_leaves=8)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | texts, inner, max_size=4),
    max_leaves=10,
)


@given(trees)
def test_written_tree_parses_to_itself(tree: Node) -> None:
    text = render(tree)
    if len(text) <= 500:
        assert parse_check(text).root == tree


@given(trees, json_values, st.dictionaries(names, json_values, max_size=3))
def test_evaluation_never_raises_and_explains_itself(tree: Node, result: Any, outputs: dict[str, Any]) -> None:
    report = evaluate(Check(render(tree), tree), result, outputs)
    assert report.value or report.reason or report.failed_atom
    report.model_dump_json()


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "result",
                "outputs",
                ".",
                "[",
                "]",
                "(",
                ")",
                "not",
                "and",
                "or",
                "-",
                "==",
                "<",
                "in",
                "1",
                '"a"',
                "len",
                ",",
            ]
        ),
        max_size=30,
    ).map(" ".join)
)
def test_any_text_parses_or_is_refused_with_a_position(text: str) -> None:
    position = 0
    try:
        evaluate(parse_check(text), {"a": 1}, {})
    except CheckSyntaxError as error:
        position = error.position
    assert 0 <= position <= len(text)


@settings(deadline=None)
@given(st.integers(1, 20_000), st.sampled_from(["(a*)*b", "(a|a)*b", "(a|aa)+$b", "(a?){30}a{30}b"]))
def test_patterns_that_hang_backtracking_engines_end_quickly(length: int, pattern: str) -> None:
    begin = time.process_time()
    assert not evaluate(parse_check(f'matches(result, "^{pattern}")'), "a" * length, {}).value
    assert time.process_time() - begin < 3
