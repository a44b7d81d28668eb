"""What a demo run asks for and what must come of it, as data: read from a file or generated."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raa_cli.execute import UsageProblem


@dataclass(frozen=True)
class Reading:
    """How a column is read in plain Python: the independent way to the truth."""

    file: str
    column: str
    delimiter: str = ","
    decimal: str = "."
    missing: Sequence[str] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Reading":
        """Read it from JSON."""
        return cls(**given)


@dataclass(frozen=True)
class Attempt:
    """What one attempt must have done."""

    error: str | None = None
    fails_check_at: Reading | None = None
    applies: Sequence[Mapping[str, Any]] = ()
    learns: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Attempt":
        """Read it from JSON."""
        wrong = given.get("fails_check_at")
        return cls(given.get("error"), Reading.of(wrong) if wrong else None, given.get("applies", ()),
                   given.get("learns", ()))  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One task of the demo. `means` are the values it must give; `truth` is given where they are not the truth."""

    name: str
    goal: str
    inputs: Sequence[str]
    check: str | None
    memory: str
    tenant: str
    attempts: Sequence[Attempt]
    means: Sequence[Reading]
    checked: bool
    truth: Reading | None = None
    artifact: str | None = None
    parallel: int = 1
    cites: Sequence[Mapping[str, Any]] | None = None
    remark: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Run":
        """Read it from JSON."""
        nested = {
            "attempts": [Attempt.of(item) for item in given["attempts"]],
            "means": [Reading.of(item) for item in given["means"]],
            "truth": Reading.of(given["truth"]) if given.get("truth") else None,
        }
        plain = {"check": None, "memory": "on", "tenant": "same"} | dict(given)
        return cls(**(plain | nested))


@dataclass(frozen=True)
class Scenario:
    """Runs in order, and the folder their files are in."""

    folder: Path
    runs: Sequence[Run] = field(default_factory=list)


def read_scenario(file: Path, folder: Path) -> Scenario:
    """Read a scenario; raises UsageProblem saying where it should be."""
    if not file.is_file():
        raise UsageProblem(
            f"the demo's tasks are not at {file}; run it from a clone of the repository, or with --seed 1"
        )
    return Scenario(folder, [Run.of(item) for item in json.loads(file.read_text(encoding="utf-8"))["runs"]])
