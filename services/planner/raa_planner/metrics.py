"""Metrics of the planner. The depth and age of its queue are the backlog that Kafka lag cannot see."""

from collections.abc import Callable
from datetime import datetime

from raa_planner.domain.planning import ModelSaid
from raa_planner.domain.scheduler import FairQueue
from raa_runtime.telemetry import Metrics


class PlannerMetrics:
    """What the planner counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.queue_depth = metrics.gauge("raa_planner_queue_depth_tasks", "admitted tasks that wait for their turn")
        self.queue_age = metrics.gauge("raa_planner_queue_oldest_seconds", "how long the oldest of them has waited")
        self.active = metrics.gauge("raa_planner_active_tasks", "tasks begun and neither ended nor parked")
        self.done = metrics.counter("raa_planner_tasks_done_total", "ended tasks by outcome", ["outcome"])
        self.attempts = metrics.counter("raa_planner_plans_executed_total", "plans executed by ended tasks")
        self.recalls = metrics.counter("raa_planner_recalls_total", "recalls: fresh, stale or away", ["answer"])
        self.answers = metrics.counter("raa_planner_model_answers_total", "model answers by kind", ["kind"])
        self.duration = metrics.histogram("raa_planner_task_duration_seconds", "from the record's time to task.done")

    def show_queue(self, queue: FairQueue, now: Callable[[], datetime]) -> None:
        """Show the queue as it is whenever somebody looks."""
        self.queue_depth.set_function(lambda: queue.depth)
        self.queue_age.set_function(lambda: queue.oldest_age(now()).total_seconds())
        self.active.set_function(lambda: queue.active)

    def count_answer(self, said: ModelSaid) -> None:
        """Count what kind of answer a model gave."""
        kind = "plan" if said.plan is not None else "cannot" if said.cannot is not None else "garbage"
        self.answers.labels(kind).inc()
