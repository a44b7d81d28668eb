"""What a counterfactual changes, exactly one thing, and what it may do for that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from raa_cli.execute import UsageProblem

Allowed = Literal["model", "reads"]
Kind = Literal["nothing", "lesson", "model", "policy", "prompt", "version"]

OPTIONS: Final = {
    "lesson": "--without-lesson",
    "model": "--model",
    "policy": "--policy",
    "prompt": "--prompt",
    "version": "--version",
}


@dataclass(frozen=True)
class Change:
    """One change, by kind and value; `nothing` is a plain replay."""

    kind: Kind = "nothing"
    value: str = ""
    allow: frozenset[Allowed] = frozenset()

    def settings(self, asked: str) -> dict[str, Any]:
        """Give the settings of the sandbox; `asked` is the model the tasks were planned with."""
        own: dict[str, Any] = {"model": self.value if self.kind == "model" else asked}
        if self.kind == "policy":
            own["policy"] = Path(self.value)
        if self.kind == "prompt":
            own["prompt"] = self.value
        return own

    def drops(self, lesson: str) -> bool:
        """Say whether this lesson is to be withheld."""
        return self.kind == "lesson" and self.value == lesson

    def __str__(self) -> str:
        return {
            "nothing": "nothing changed",
            "lesson": f"without lesson {self.value}",
            "model": f"with model {self.value}",
            "policy": f"with policy {self.value}",
            "prompt": f"with prompt {self.value}",
            "version": f"with version {self.value}",
        }[self.kind]


@dataclass(frozen=True)
class Diverged:
    """Where a replayed task left what is recorded, and what would let it go on."""

    where: str
    why: str
    flag: str | None = None

    def __str__(self) -> str:
        remedy = f"; {self.flag} lets it go on" if self.flag else "; no flag lets it go on"
        return f"diverged at {self.where}: {self.why}{remedy}"


def read_change(given: Mapping[str, str], allow: Sequence[str]) -> Change:
    """Read a change as it is written on the command line; raises UsageProblem unless it is exactly one."""
    if len(given) != 1:
        told = " and ".join(OPTIONS[kind] for kind in given) if given else "none"
        raise UsageProblem(f"whatif changes exactly one thing, not {told}; give one of {', '.join(OPTIONS.values())}")
    (kind, value), *_ = given.items()
    allowed = {part.strip() for text in allow for part in text.split(",") if part.strip()}
    if unknown := sorted(allowed - set(get_args(Allowed))):
        raise UsageProblem(f"--allow {unknown[0]!r}: there is {' and '.join(get_args(Allowed))}")
    return Change(kind, value, frozenset(allowed))  # type: ignore[arg-type]  # both were just compared with the types
