"""Where another release is found, and what is said when it is none."""

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from raa_cli.execute import CommandFailed, UsageProblem
from raa_cli.replay.change import Change, Diverged, read_change
from raa_cli.replay.elsewhere import _command as command
from raa_cli.replay.elsewhere import _tell as tell
from raa_cli.replay.elsewhere import find_release, perform
from raa_cli.replay.evidence import Evidence
from raa_cli.replay.playing import _deal
from raa_cli.replay.recording import Recording
from tests.source_tree import ROOT


def test_a_source_tree_is_run_by_this_python_before_what_is_installed():
    release = find_release(str(ROOT))
    path = release.environment["PYTHONPATH"].split(os.pathsep)
    assert {ROOT / "cli", ROOT / "services" / "planner"} <= set(map(Path, path))
    assert release.command in ([sys.executable], [str(ROOT / ".venv" / "bin" / "python")])


def test_a_virtual_environment_is_run_by_its_own_python(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert find_release(str(tmp_path)).command == [str(tmp_path / "bin" / "python")]


def test_an_image_needs_something_that_runs_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageProblem, match="needs podman or docker"):
        find_release("example/raa:0.1.0")


def test_an_image_sees_the_job_and_the_blobs_which_it_cannot_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    engine = tmp_path / "podman"
    engine.write_text("#!/bin/sh\n")
    engine.chmod(engine.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    release = find_release("example/raa:0.1.0")
    alone = Change("version", "example/raa:0.1.0")
    written = " ".join(command(release, alone, Path("/job"), "file:/data/blobs", [Path("/own/tools.py")]))
    assert written.startswith(f"{engine} run --rm --read-only")
    mounts = "-v /job:/job -v /own/tools.py:/own/tools.py:ro -v /data/blobs:/data/blobs:ro"
    assert f"{mounts} --network none" in written
    assert written.endswith("example/raa:0.1.0 -m raa_cli replay-case /job")
    asking = Change("version", "example/raa:0.1.0", frozenset({"model"}))
    assert "--network" not in command(release, asking, Path("/job"), "file:/data/blobs")
    assert "--network" not in command(release, alone, Path("/job"), "s3://bucket/blobs")


def test_a_release_without_replay_is_named_as_what_it_is(tmp_path: Path):
    with pytest.raises(CommandFailed, match="older than `raa replay`"):
        tell((2, "raa: No such command 'replay-case'."), tmp_path, "old")
    with pytest.raises(CommandFailed, match="ended with 1 and said: no space left"):
        tell((1, "no space\nleft"), tmp_path, "other")


@pytest.mark.parametrize(
    "said", ["/x/bin/python: No module named raa_cli", "…\nImportError: No module named 'raa_cli'"]
)
def test_a_python_that_lacks_a_module_is_named_with_it(tmp_path: Path, said: str):
    with pytest.raises(CommandFailed, match="in other cannot start: its Python has no module 'raa_cli'; install"):
        tell((1, said), tmp_path, "other")


def test_a_source_tree_with_a_hole_is_refused_because_what_is_installed_would_fill_it(tmp_path: Path):
    for path in ("schemas/raa_schemas", "runtime/raa_runtime", "client/raa_client", "cli/raa_cli"):
        (tmp_path / path).mkdir(parents=True)
    with pytest.raises(UsageProblem, match="services/planner/raa_planner are not there"):
        find_release(str(tmp_path))
    for name in ("executor", "safety", "memory", "router", "reflector", "planner"):
        (tmp_path / "services" / name / f"raa_{name}").mkdir(parents=True)
    assert str(tmp_path / "services" / "planner") in find_release(str(tmp_path)).environment["PYTHONPATH"]
    (tmp_path / "client" / "raa_client").rmdir()
    with pytest.raises(UsageProblem, match="no whole source tree of raa: client/raa_client is not there"):
        find_release(str(tmp_path))


def test_a_job_of_another_format_is_refused(tmp_path: Path):
    (tmp_path / "job.json").write_text('{"format": 99}')
    with pytest.raises(UsageProblem, match="reads jobs of format 1, not 99"):
        asyncio.run(perform(tmp_path))


def test_a_change_is_exactly_one_and_allows_what_is_named():
    change = read_change({"model": "big"}, ["model,reads", "model"])
    assert change == Change("model", "big", frozenset({"model", "reads"}))
    with pytest.raises(UsageProblem, match="exactly one thing"):
        read_change({}, [])
    with pytest.raises(UsageProblem, match="'writes'"):
        read_change({"model": "big"}, ["writes"])


def test_a_divergence_names_what_would_let_it_go_on():
    assert str(Diverged("step v1/a", "why", "--allow reads")).endswith("--allow reads lets it go on")
    assert str(Diverged("step v1/a", "why")).endswith("no flag lets it go on")


def test_many_tasks_are_dealt_to_a_few_sandboxes_and_each_model_has_its_own():
    recording = Recording("default", "t", "", (), ())
    cases = [Evidence(recording, asked) for asked in ["big"] * 60 + ["small"] * 2 + ["big"] * 100]
    hands = _deal(cases)
    assert sorted(place for _, places in hands for place in places) == list(range(162))
    assert [(asked, len(places)) for asked, places in hands] == [("big", 40)] * 4 + [("small", 2)]
    assert all(cases[place].asked == asked for asked, places in hands for place in places)
