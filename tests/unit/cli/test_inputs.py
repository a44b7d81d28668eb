"""What is doubtful about the files of a task is said before it fails of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raa_cli.inputs import doubt, forgotten_among
from tests.unit.cli.test_command import Called, raa  # noqa: F401  # fixture

Raa = Callable[..., Called]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n3,4,5\n6,7\n", "nearly a table, but line 3 has 3 fields where the first has 2"),
        ("a,b,a\n1,2,3\n", "several columns are called 'a'"),
        ('{"a": 1}\n{"a": 2\n{"a": 3}\n', "nearly a table, but line 2 is no JSON"),
        ("a,b\n1,2\n", ""),
        ("Dear all, hello\nthis is prose, with commas, and more\nand it is no table, not at all, never\n", ""),
        ('{\n  "a": {\n    "b": 1\n  }\n}\n', ""),
    ],
)
def test_a_file_that_is_nearly_a_table_is_doubted_and_others_are_not(content: str, said: str, tmp_path: Path):
    path = tmp_path / "made"
    path.write_text(content)
    assert doubt(path).startswith(said)
    assert bool(doubt(path)) == bool(said)


def test_a_file_that_the_goal_names_and_nobody_attached_is_pointed_out(
    raa: Raa,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert forgotten_among("mean of a in wine.csv and notes.txt, write report.md", []) == ["wine.csv", "notes.txt"]
    assert forgotten_among("mean of a in wine.csv", [Path("data/wine.csv")]) == []
    assert forgotten_among("is 3.5 more than 2.25, e.g. here? use calculate", []) == []
    failed = raa("run", "average of alcohol in wine.csv")
    assert "the goal names wine.csv, which is not attached" in failed.err
    assert "--input wine.csv" in failed.err
