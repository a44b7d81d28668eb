"""Plays cases with another release: a virtual environment, a source tree or an image, in a process of its own."""

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from raa_cli.execute import CommandFailed, UsageProblem
from raa_cli.replay.change import Change, Diverged
from raa_cli.replay.evidence import Evidence, evidence_of
from raa_cli.replay.original import Original
from raa_cli.replay.playing import Played, Progress, play
from raa_cli.replay.recording import read_records, recorded, write_records
from raa_cli.stack import PARTS
from raa_runtime.blobs import open_blobs

FORMAT: Final = 1
JOB, RECORDS, RESULTS = "job.json", "records.jsonl", "results.json"
_PACKAGES: Final = ("schemas", "runtime", "client", "cli")
_TOLD_CHARACTERS: Final = 600
_NO_MODULE: Final = re.compile(r"No module named '?([\w.]+)")
# Root of the container, because the folder of the job is readable to nobody but us; it may do nothing else with that.
_CONFINED: Final = (
    *("--rm", "--read-only", "--tmpfs", "/tmp", "--user", "0:0", "--cap-drop", "all", "--cap-add", "dac_override"),  # noqa: S108  # the container's own
    *("--security-opt", "no-new-privileges", "--env", "TMPDIR=/tmp", "--entrypoint", "python"),
)


class Release(NamedTuple):
    """How another release is started; `mounts` says that it sees only the folders it is given."""

    command: list[str]
    environment: dict[str, str]
    mounts: bool = False


def find_release(version: str) -> Release:
    """Find out what PATH-OR-IMAGE is; raises UsageProblem saying what it could be."""
    folder = Path(version).expanduser()
    if folder.is_dir():
        return _in_folder(folder.resolve())
    if folder.exists() or version.startswith((".", "/", "~")):
        raise UsageProblem(f"--version {version}: there is no such folder; name a virtual environment or a source tree")
    engine = shutil.which("podman") or shutil.which("docker")
    if engine is None:
        raise UsageProblem(
            f"--version {version} is no folder, and to run an image this machine needs podman or docker; "
            "name a virtual environment or a source tree instead"
        )
    return Release([engine, "run", *_CONFINED], dict(os.environ), mounts=True)


def _in_folder(folder: Path) -> Release:
    """Take an environment by its own Python; sources by that of their `.venv` if they have one, else by ours."""
    if (folder / "bin" / "python").exists():
        return Release([str(folder / "bin" / "python")], dict(os.environ))
    if not (folder / "cli" / "raa_cli").is_dir():
        raise UsageProblem(f"--version {folder} holds neither bin/python nor the sources of raa (cli/raa_cli)")
    needed = [f"{name}/raa_{name}" for name in _PACKAGES] + [f"services/{part.name}/raa_{part.name}" for part in PARTS]
    if missing := [name for name in needed if not (folder / name).is_dir()]:  # ours would be taken in their place
        raise UsageProblem(
            f"--version {folder} is no whole source tree of raa: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there; check it out in full"
        )
    services = sorted(path for path in (folder / "services").iterdir() if path.is_dir())
    sources = [*(folder / name for name in _PACKAGES), *services]
    path = os.pathsep.join([*map(str, sources), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = folder / ".venv" / "bin" / "python"
    return Release([str(own) if own.exists() else sys.executable], dict(os.environ) | {"PYTHONPATH": path})


async def play_elsewhere(
    cases: Sequence[Evidence],
    change: Change,
    original: Original,
    *,
    tools: Sequence[Path] = (),
    models: Path | None = None,
    told: Progress | None = None,
) -> list[Played]:
    """Play cases with the release the change names; raises CommandFailed with what it said."""
    release = find_release(change.value)
    with tempfile.TemporaryDirectory(prefix="raa-job-") as name:
        folder = Path(name)
        _write_job(folder, cases, change, original, {"tools": tools, "models": models})
        command = _command(release, change, folder, original.blobs_url, tools)
        _tell(await _run(command, release.environment), folder, change.value)
        played = _results(folder, cases)
    for one in played:
        if told:
            told(one.task_id)
    return played


def _write_job(
    folder: Path, cases: Sequence[Evidence], change: Change, original: Original, files: Mapping[str, Any]
) -> None:
    write_records((record for case in cases for record in case.recording.records), folder / RECORDS)
    job = {
        "format": FORMAT,
        "tenant": cases[0].recording.tenant,
        "deployment": original.deployment,
        "blobs_url": original.blobs_url,
        "tasks": [case.recording.task_id for case in cases],
        "allow": sorted(change.allow),
        "files": {name: _plain(value) for name, value in files.items()},
    }
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def _command(release: Release, change: Change, folder: Path, blobs_url: str, tools: Sequence[Path] = ()) -> list[str]:
    """Write the command; a container sees the job, the blobs, and a network only if there is something to reach."""
    if not release.mounts:
        return [*release.command, "-m", "raa_cli", "replay-case", str(folder)]
    mounts = ["-v", f"{folder}:{folder}"]
    for tool in tools:
        mounts += ["-v", f"{tool.absolute()}:{tool.absolute()}:ro"]
    parts = urlsplit(blobs_url)
    if parts.scheme == "file":
        path = unquote(parts.path)
        mounts += ["-v", f"{path}:{path}:ro"]
    if parts.scheme == "file" and "model" not in change.allow:
        mounts += ["--network", "none"]
    return [*release.command, *mounts, change.value, "-m", "raa_cli", "replay-case", str(folder)]


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        printed, _ = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return process.returncode or 0, printed.decode(errors="replace")


def _tell(ended: tuple[int, str], folder: Path, version: str) -> None:
    code, printed = ended
    if code == 0 and (folder / RESULTS).is_file():
        return
    if "replay-case" in printed and "No such command" in printed:
        raise CommandFailed(f"the release in {version} cannot replay: it is older than `raa replay`")
    if missing := _NO_MODULE.search(printed):
        raise CommandFailed(
            f"the release in {version} cannot start: its Python has no module {missing[1]!r}; install what that "
            "release needs (for a source tree, into its .venv), or name a virtual environment that has it"
        )
    said = " ".join(printed.split())[-_TOLD_CHARACTERS:]
    raise CommandFailed(f"the release in {version} ended with {code} and said: {said or 'nothing'}")


def _results(folder: Path, cases: Sequence[Evidence]) -> list[Played]:
    told = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    tenant = cases[0].recording.tenant
    records = read_records(folder / f"played-{RECORDS}")
    replayed = {
        task: recording
        for deployment in told["deployments"]
        for task, recording in recorded(records, deployment, tenant).items()
    }
    return [
        Played(
            tenant,
            item["task"],
            replayed.get(item["task"]),
            Diverged(**item["diverged"]) if item["diverged"] else None,
            item["durations"],
            item["live"],
        )
        for item in told["played"]
    ]


async def perform(folder: Path) -> None:
    """Play the job in a folder, as the other release; writes what was played beside it."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    if job["format"] != FORMAT:
        raise UsageProblem(f"this release reads jobs of format {FORMAT}, not {job['format']}")
    blobs = open_blobs(job["blobs_url"], job["deployment"])
    recordings = recorded(read_records(folder / RECORDS), job["deployment"], job["tenant"])
    cases = [await evidence_of(recordings[task], blobs, {}) for task in job["tasks"]]
    change = Change(allow=frozenset(job["allow"]))
    tools, models = [Path(path) for path in job["files"]["tools"]], job["files"]["models"]
    with tempfile.TemporaryDirectory(prefix="raa-replay-") as own:
        played = await play(cases, change, Path(own), blobs, tools=tools, models=Path(models) if models else None)
    _write_results(folder, played)


def _write_results(folder: Path, played: Sequence[Played]) -> None:
    replayed = [one.replayed for one in played if one.replayed is not None]
    write_records((record for one in replayed for record in one.records), folder / f"played-{RECORDS}")
    told = {
        "deployments": sorted({one.deployment for one in replayed}),
        "played": [
            {
                "task": one.task_id,
                "diverged": asdict(one.diverged) if one.diverged else None,
                "durations": one.durations,
                "live": one.live,
            }
            for one in played
        ],
    }
    (folder / RESULTS).write_text(json.dumps(told), encoding="utf-8")
