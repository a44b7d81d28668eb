"""Files of the workspace: only the manifest's names, only relative paths, text joined from parts."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.registry import CallContext, ToolError, Workspace, call
from raa_executor.tools.workspace import relative_name

CONTEXT = CallContext("key", "acme", "task", "step", 1, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "blob").write_text("zeile\nä\n", encoding="latin-1")
    return Workspace(tmp_path / "step", {"notes.txt": tmp_path / "blob", "gone.txt": tmp_path / "nowhere"})


def run(workspace: Workspace, name: str, **args: Any) -> Any:
    return asyncio.run(call(built_in_tools(), name, args, workspace, CONTEXT))


def failure(workspace: Workspace, name: str, **args: Any) -> ToolError:
    with pytest.raises(ToolError) as raised:
        run(workspace, name, **args)
    return raised.value


def test_report_joins_text_and_values(workspace: Workspace):
    parts = ["# Alcohol\n", "red ", 10.42298311444653, ", white ", 10.5, ", n ", 1599, ", ", None, [1, "ä"], "\n"]

    written = run(workspace, "file.write", path="out/report.md", parts=parts, decimals=4)

    text = workspace.changed()["out/report.md"].read_text(encoding="utf-8")
    assert text == '# Alcohol\nred 10.4230, white 10.5000, n 1599, [1,"ä"]\n'
    assert written["size"] == len(text.encode())


def test_writing_twice_changes_nothing(workspace: Workspace):
    first = run(workspace, "file.write", path="a.txt", parts=["x"])

    assert run(workspace, "file.write", path="a.txt", parts=["x"]) == first
    assert list(workspace.changed()) == ["a.txt"]


def test_own_writes_can_be_read(workspace: Workspace):
    run(workspace, "file.write", path="notes.txt", parts=["new"])

    assert run(workspace, "file.read", file="notes.txt")["text"] == "new"


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "./a", "a\\b", "a\0b", "x" * 300]
)
def test_no_path_leaves_the_workspace(path: str, workspace: Workspace):
    assert failure(workspace, "file.write", path=path, parts=["x"]).code == "bad_arguments"


@given(st.text(max_size=20))
def test_accepted_names_stay_below_the_workspace(name: str):
    try:
        accepted = relative_name(name)
    except ToolError:
        return
    assert (Path("/w") / accepted).resolve().is_relative_to("/w")


def test_folder_and_file_of_one_name_are_refused(workspace: Workspace):
    run(workspace, "file.write", path="a/b.txt", parts=["x"])

    assert failure(workspace, "file.write", path="a", parts=["x"]).code == "bad_arguments"
    assert failure(workspace, "file.write", path="a/b.txt/c", parts=["x"]).code == "bad_arguments"


def test_reading_stops_at_max_chars(workspace: Workspace):
    assert run(workspace, "file.read", file="notes.txt") == {
        "text": "zeile\nä\n",
        "chars": 8,
        "truncated": False,
        "encoding": "latin-1",
    }
    assert run(workspace, "file.read", file="notes.txt", max_chars=3)["truncated"]


def test_names_outside_the_manifest_are_not_found(workspace: Workspace):
    for name in ("/etc/passwd", "../blob", "gone.txt"):
        error = failure(workspace, "file.read", file=name)
        assert error.code == "file_not_found"
        assert "notes.txt" in error.details["names"]
    assert "did you mean 'notes.txt'?" in failure(workspace, "file.read", file="note.txt").message


def test_binary_file_is_not_read_as_text(tmp_path: Path):
    (tmp_path / "b").write_bytes(bytes(range(256)))

    assert failure(Workspace(tmp_path, {"b.bin": tmp_path / "b"}), "file.read", file="b.bin").code == "not_text"


def test_list_shows_names_and_sizes(tmp_path: Path):
    (tmp_path / "b").write_bytes(b"123")
    workspace = Workspace(tmp_path / "step", {"b.txt": tmp_path / "b"})

    assert run(workspace, "file.list") == {"files": [{"name": "b.txt", "size": 3}]}
