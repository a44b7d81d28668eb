"""The gates of a counterfactual: what must hold, so that its exit code can stop a pipeline. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from raa_cli.replay.compare import Compared
from raa_cli.replay.deltas import Delta, mean_delta, success_delta

METRICS: Final = ("success", "cost", "latency", "changed")
DEFAULT_GATES: Final = ("success>=0",)
_GATE = re.compile(r"\s*([a-z]+)\s*(<=|>=)\s*([-+]?[0-9]*\.?[0-9]+)\s*")


class GateUnreadableError(ValueError):
    """A gate is not written as `metric<=number` or `metric>=number`."""


@dataclass(frozen=True)
class Gate:
    """One bound on a mean change per task."""

    metric: str
    at_most: bool
    bound: float

    def holds(self, value: float) -> bool:
        """Say whether a value is within the bound."""
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.at_most else '>='}{self.bound:g}"


def read_gate(text: str) -> Gate:
    """Read a gate; raises GateUnreadableError saying how to write one."""
    found = _GATE.fullmatch(text)
    if found is None or found[1] not in METRICS:
        raise GateUnreadableError(
            f"--gate {text!r}: write a metric ({', '.join(METRICS)}), <= or >=, and a number, as in 'success>=0'; "
            "success and changed are shares, cost is in micro-USD and latency in milliseconds per task"
        )
    return Gate(found[1], found[2] == "<=", float(found[3]))


@dataclass(frozen=True)
class Summary:
    """What all tasks together say."""

    tasks: int
    covered: int
    changed: int
    success: Delta
    cost: Delta
    latency: Delta

    @property
    def coverage(self) -> float:
        """Give the share of the chosen tasks that were replayed to their end."""
        return self.covered / self.tasks if self.tasks else 0.0

    def value_of(self, metric: str) -> float:
        """Give what a gate is held against."""
        if metric == "changed":
            return self.changed / self.covered if self.covered else 0.0
        deltas = {"success": self.success, "cost": self.cost, "latency": self.latency}
        return deltas[metric].mean


def summarise(compared: Sequence[Compared]) -> Summary:
    """Sum up the tasks that were replayed to their end."""
    pairs = [(one.recorded, one.replayed) for one in compared if one.recorded and one.replayed]
    before, after = [then for then, _ in pairs], [now for _, now in pairs]
    return Summary(
        tasks=len(compared),
        covered=len(pairs),
        changed=sum(one.covered and not one.same_result for one in compared),
        success=success_delta([one.succeeded for one in before], [one.succeeded for one in after]),
        cost=mean_delta([float(now.cost_microusd - then.cost_microusd) for then, now in pairs]),
        latency=mean_delta([float(now.latency_ms - then.latency_ms) for then, now in pairs]),
    )


def failures(summary: Summary, gates: Sequence[Gate], min_coverage: float) -> list[str]:
    """List what does not hold: gates first, then too few tasks that could be compared."""
    broken = [
        f"{gate} does not hold: it is {summary.value_of(gate.metric):g}"
        for gate in gates
        if summary.covered and not gate.holds(summary.value_of(gate.metric))
    ]
    if summary.coverage < min_coverage:
        broken.append(f"coverage is {summary.coverage:.0%}, below --min-coverage {min_coverage:.0%}")
    return broken
