"""What the executor counts: steps that are ready, tools that run, and how long each tool took."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from raa_executor.domain.step_state import StepRun
from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Metrics
from raa_runtime.unit import Unit

_READY: Final = frozenset({"learning_keys", "asking", "held", "retrying", "unknown"})


class ToolMetrics:
    """Metrics of one executor process."""

    def __init__(self, metrics: Metrics) -> None:
        self._ready = metrics.gauge("raa_executor_steps_ready", "steps taken up here whose tool does not run yet")
        self._running = metrics.gauge("raa_executor_steps_running", "tools that run in this process")
        self._seconds = metrics.histogram("raa_executor_tool_seconds", "time inside a tool", ("tool", "outcome"))
        self._waiting: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a tool as long as it runs."""
        with self._running.track_inprogress():
            yield

    def ended(self, tool: str, outcome: str, seconds: float) -> None:
        """Count the end of a call; `outcome` is `succeeded` or an error code."""
        self._seconds.labels(tool, outcome).observe(seconds)

    def stored(self, _kind: Kind[Any], unit: Unit[Any]) -> None:
        """Follow a step from the moment it is released until its tool starts."""
        if isinstance(unit.state, StepRun):
            change = self._waiting.add if unit.state.phase in _READY and not unit.closed else self._waiting.discard
            change(unit.id)
            self._ready.set(len(self._waiting))
