"""What memory counts and logs about what it has stored and answered."""

from collections.abc import Callable
from typing import Any

from raa_memory.domain.episode import EPISODE
from raa_memory.domain.fold import KNOWN_KINDS
from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Logger, Metrics
from raa_runtime.unit import Unit
from raa_schemas.recall import RecallAnswer


class MemoryMetrics:
    """The metrics of the service, on its own registry."""

    def __init__(self, metrics: Metrics) -> None:
        self.reflections = metrics.counter("raa_memory_reflections_total", "reflections taken in")
        self.lessons = metrics.counter("raa_memory_lessons_total", "lessons confirmed, by kind", ("kind",))
        self.recalls = metrics.counter("raa_memory_recalls_total", "recalls by answer", ("answer",))
        self.stale = metrics.counter("raa_memory_stale_recalls_total", "recalls answered without all they named")
        self.seconds = metrics.histogram("raa_memory_recall_seconds", "time of a recall, waiting included")

    def count(self, answer: RecallAnswer, seconds: float) -> None:
        """Count one answered recall."""
        self.recalls.labels("lessons" if answer.lessons else "nothing").inc()
        self.stale.inc(int(answer.stale))
        self.seconds.observe(seconds)


def observer(metrics: MemoryMetrics, log: Logger) -> Callable[[Kind[Any], Unit[Any]], None]:
    """Make the function that the runtime calls after each stored unit."""

    def observe(kind: Kind[Any], unit: Unit[Any]) -> None:
        if kind is not EPISODE or not unit.state.reflections:
            return
        metrics.reflections.inc()
        newest = unit.state.reflections[-1]
        for delta in unit.state.deltas:
            if delta.reflection == newest:
                metrics.lessons.labels(delta.lesson.kind if delta.lesson.kind in KNOWN_KINDS else "unknown").inc()
                log.info(
                    "lesson_learned",
                    tenant=unit.tenant,
                    task=unit.task_id,
                    lesson=delta.lesson.id,
                    kind=delta.lesson.kind,
                    tool=delta.lesson.scope.tool,
                )

    return observe
