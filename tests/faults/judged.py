"""The row of a fault from the verdict on it, and what every fault asks of its row."""

from collections.abc import Mapping
from typing import Final

from tests.faults.report import Row
from tests.faults.trial import Trial

TOLD: Final = ("tasks", "lost", "tasks_succeeded", "keyed_twice", "keyed_repeats", "unknown_outcomes", "told_again")


async def judged(trial: Trial, fault: str, where: str, injected: str, **more: float) -> Row:
    """Judge the trial's tenant; `more` are figures of the fault itself."""
    verdict = await trial.verdict()
    figures: Mapping[str, int | float] = {name: verdict.figures.get(name, 0) for name in TOLD}
    return Row(fault, where, injected, {**figures, **more}, verdict.violations)


def check(row: Row, tasks: int) -> None:
    """Ask that nothing was violated, lost or done twice, and that all of these tasks succeeded."""
    assert row.violations == []
    assert row.figures["lost"] == row.figures["keyed_twice"] == 0
    assert row.figures["tasks_succeeded"] == row.figures["tasks"] == tasks
