"""One log line per transition of a run: each step that settled, and the questions that wait for safety."""

from typing import Any

from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Logger
from raa_runtime.unit import Unit
from raa_schemas.action import ActionProposed
from raa_schemas.step import StepDone


class Journal:
    """Writes what a stored unit told the world."""

    def __init__(self, log: Logger) -> None:
        self._log = log

    def stored(self, _kind: Kind[Any], unit: Unit[Any]) -> None:
        """Log the events of one stored unit."""
        for event in unit.published:
            if isinstance(event, StepDone):
                code = event.error.code if event.error else None
                self._line("step_done", unit, event, outcome=event.outcome, run=event.run_status, error=code)
            elif isinstance(event, ActionProposed):
                self._line("action_proposed", unit, event, reason=event.reason)

    def _line(self, name: str, unit: Unit[Any], event: StepDone | ActionProposed, **facts: str | None) -> None:
        place = {"tenant": unit.tenant, "task": unit.task_id, "plan": event.plan_version, "step": event.step}
        self._log.info(name, **place, tool=event.tool, **facts)
