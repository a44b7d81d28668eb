"""Does what `raa replay` and `raa whatif` are asked: chooses tasks, plays them, compares, reports, and decides."""

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from raa_cli.execute import FAILED, UsageProblem
from raa_cli.output import note
from raa_cli.replay.change import Change
from raa_cli.replay.compare import Compared, compare
from raa_cli.replay.elsewhere import find_release, play_elsewhere
from raa_cli.replay.gates import DEFAULT_GATES, Gate, GateUnreadableError, failures, read_gate, summarise
from raa_cli.replay.original import Original, opened
from raa_cli.replay.playing import Played, Progress, play
from raa_cli.replay.report import print_replay, print_replay_json, print_whatif, print_whatif_json
from raa_cli.replay.selection import Found, Selection, find
from raa_cli.session import MODELS_FILE, Place
from raa_cli.stack import known_models
from raa_router.domain.catalogue import UnknownModelError, choose_model
from raa_runtime.errors import Misconfigured
from raa_runtime.telemetry import configure_logging
from raa_safety.domain.policy import read_policies
from raa_schemas.usage import UsageRecorded

PROGRESS_FROM: Final = 5


@dataclass(frozen=True)
class Asked:
    """What both commands are asked."""

    place: Place
    selection: Selection
    change: Change
    tools: Sequence[Path] = ()
    min_coverage: float = 1.0
    gates: Sequence[Gate] = ()
    as_json: bool = False

    @property
    def models(self) -> Path | None:
        """Give the models of the data folder, as a stack on it has them."""
        file = self.place.data / MODELS_FILE
        return file if file.is_file() else None


async def replay(asked: Asked) -> int:
    """Replay tasks unchanged; 0 only if each was decided as it is recorded."""
    compared = await _compared(asked)
    broken = failures(summarise(compared), (), asked.min_coverage)
    if asked.as_json:
        print_replay_json(compared, broken)
    else:
        print_replay(compared, broken)
    return FAILED if broken or any(one.differences for one in compared) else 0


async def whatif(asked: Asked) -> int:
    """Replay tasks with one thing changed; 0 if every gate holds and enough tasks could be compared."""
    _check(asked)
    compared = await _compared(asked)
    summary = summarise(compared)
    broken = failures(summary, asked.gates, asked.min_coverage)
    if asked.as_json:
        print_whatif_json(asked.change, compared, summary, broken)
    else:
        print_whatif(asked.change, compared, summary, broken)
    return FAILED if broken else 0


def read_gates(texts: Sequence[str]) -> list[Gate]:
    """Read gates; raises UsageProblem."""
    try:
        return [read_gate(text) for text in texts or DEFAULT_GATES]
    except GateUnreadableError as problem:
        raise UsageProblem(str(problem)) from None


def _check(asked: Asked) -> None:
    """Refuse what cannot work before anything is read."""
    change = asked.change
    if change.kind == "policy":
        _check_policy(Path(change.value))
    if change.kind == "version":
        find_release(change.value)
    if change.kind == "model":
        _model(change.value, asked.models)


def _check_policy(file: Path) -> None:
    try:
        read_policies(file.read_bytes())
    except OSError as problem:
        raise UsageProblem(f"--policy {file} cannot be read: {problem.strerror}") from None
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageProblem(f"--policy {file} is no policy: {told}; safety's README shows one") from None


def _model(name: str, models: Path | None) -> str:
    """Resolve the name of a model, a tier or `default`; raises UsageProblem."""
    try:
        return choose_model(known_models(os.environ, **({"models": models} if models else {})), name)[0].name
    except UnknownModelError as unknown:
        raise UsageProblem(f"--model: {unknown}; add one with `raa model add`") from None


async def _compared(asked: Asked) -> list[Compared]:
    configure_logging("error")
    async with opened(asked.place) as original:
        found = await find(original, asked.place.tenant, asked.selection)
        _check_lesson(asked.change, found)
        _note_model(asked, found)
        played = await _played(asked, found, original) if found.cases else []
    done = {one.task_id: compare(found.cases[one.task_id].recording, found.goal(one.task_id), one) for one in played}
    return [found.skipped.get(task) or done[task] for task in found.tasks]


def _check_lesson(change: Change, found: Found) -> None:
    if change.kind != "lesson":
        return
    shown = sorted({lesson for case in found.cases.values() for lesson in case.lessons})
    if change.value not in shown:
        hint = f"shown were {', '.join(shown)}" if shown else "no lesson was shown to any of them"
        raise UsageProblem(f"--without-lesson {change.value}: memory gave it to none of these tasks; {hint}")


def _note_model(asked: Asked, found: Found) -> None:
    """Say so if the tasks were planned with this very model: only its answers may be others."""
    if asked.change.kind != "model":
        return
    chosen = _model(asked.change.value, asked.models)
    used = {usage.model for case in found.cases.values() for usage in case.recording.all(UsageRecorded)}
    if used == {chosen}:
        note(f"--model {asked.change.value}: these tasks were planned with {chosen} already; it is only asked anew")
    elif found.cases and not used:
        note(f"--model {asked.change.value}: no model was asked about these tasks, so another one changes nothing")


async def _played(asked: Asked, found: Found, original: Original) -> list[Played]:
    cases = list(found.cases.values())
    told = _progress(len(cases))
    if asked.change.kind == "version":
        return await play_elsewhere(cases, asked.change, original, tools=asked.tools, models=asked.models, told=told)
    with tempfile.TemporaryDirectory(prefix="raa-replay-") as folder:
        try:
            return await play(
                cases, asked.change, Path(folder), original.blobs, tools=asked.tools, models=asked.models, told=told
            )
        except Misconfigured as problem:
            raise UsageProblem(f"the sandbox cannot start {asked.change}: {problem}") from None


def _progress(total: int) -> Progress | None:
    """Say on standard error how far it is, when there is something to wait for."""
    if total < PROGRESS_FROM:
        return None
    done = 0

    def told(task: str) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r\x1b[K{done}/{total} replayed, last {task}{end}")
            sys.stderr.flush()
        elif done == total or done % max(1, total // 10) == 0:
            sys.stderr.write(f"{done}/{total} replayed\n")

    return told
