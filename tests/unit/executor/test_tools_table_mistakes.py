"""Mistakes in tables are named, with the line; none of them becomes a number."""

from typing import Any

import pytest

from tests.unit.executor.test_tools_table import failure, made, run, value  # noqa: F401  # fixture


def test_a_name_that_several_columns_have_is_refused_and_another_of_them_can_be_named(made: Any):  # noqa: F811
    table = made("a,b,a\n1,2,30\n4,5,60\n")
    refused = failure(table, "table.query", select=[{"fn": "mean", "column": "a", "as": "value"}])
    assert refused.code == "ambiguous_column"
    assert "several columns called 'a'" in refused.message
    assert refused.details["others"] == ["a_2"]
    assert value(table, "mean", "a_2") == 45
    assert value(table, "mean", "b") == 3.5
    assert [column["name"] for column in run(table, "table.profile")["columns"]] == ["a", "b", "a_2"]


@pytest.mark.parametrize(
    ("content", "name", "line"),
    [
        ("a,b\n1,2\n3,4,5\n6,7\n", "made.csv", "line 3 has 3 fields where the first has 2"),
        ("a,b\n1,2\n3\n6,7\n", "made.csv", "line 3 has 1 field where the first has 2"),
        ('{"a": 1}\n{"a": 2\n{"a": 3}\n', "made.jsonl", "line 2 is no JSON"),
        ("a,b\n" + "1,2\n" * 40 + "3,4,5\n", "made.csv", "at line 42"),
        ('{"a": 1}\n' * 40 + '{"a": 2\n{"a": 3}\n', "made.jsonl", "at line 41: no JSON"),
    ],
)
def test_a_broken_line_is_named_wherever_it_is(content: str, name: str, line: str, made: Any):  # noqa: F811
    refused = failure(made(content, name), "table.query", select=[{"fn": "mean", "column": "a", "as": "value"}])
    assert refused.code == "not_a_table"
    assert line in refused.message
    assert "/executor/" not in refused.message
