"""Metrics and log lines of the reflector, taken from units after they were stored."""

from collections.abc import Callable
from typing import Any

from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Logger, Metrics
from raa_runtime.unit import Unit
from raa_schemas.reflection import ReflectionDone


class ReflectorMetrics:
    """What the reflector counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.reflections = metrics.counter("raa_reflector_reflections_total", "judged attempts", ["verdict", "label"])
        self.partial = metrics.counter("raa_reflector_partial_evidence_total", "attempts judged on what was there")
        self.hypotheses = metrics.counter("raa_reflector_hypotheses_total", "hypotheses proposed", ["kind"])
        self.lessons = metrics.counter("raa_reflector_lessons_total", "lessons confirmed", ["kind"])

    def count(self, done: ReflectionDone) -> None:
        """Count one reflection."""
        self.reflections.labels(done.verdict, done.label.source).inc()
        self.partial.inc(done.partial_evidence)
        for hypothesis in done.hypotheses:
            self.hypotheses.labels(hypothesis.kind).inc()
        for lesson in done.lessons:
            self.lessons.labels(lesson.kind).inc()


def observer(metrics: ReflectorMetrics, log: Logger) -> Callable[[Kind[Any], Unit[Any]], None]:
    """Count and log every reflection once it is durable."""

    def observe(_kind: Kind[Any], unit: Unit[Any]) -> None:
        for event in unit.published:
            if isinstance(event, ReflectionDone):
                metrics.count(event)
                log.info(
                    "reflected",
                    task=unit.task_id,
                    tenant=unit.tenant,
                    plan_version=event.plan_version,
                    verdict=event.verdict,
                    lessons=len(event.lessons),
                    partial=event.partial_evidence,
                )

    return observe
