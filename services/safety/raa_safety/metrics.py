"""What safety counts and logs about the decisions it has stored."""

from collections.abc import Callable
from typing import Any

from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Logger, Metrics
from raa_runtime.unit import Unit
from raa_safety.domain.task import TASK
from raa_schemas.action import ActionDecided
from raa_schemas.approval import ApprovalRequested
from raa_schemas.event import Event
from raa_schemas.plan import PlanReady, PlanRejected


class SafetyMetrics:
    """The metrics of the service, on its own registry."""

    def __init__(self, metrics: Metrics) -> None:
        self.plans = metrics.counter("raa_safety_plans_total", "verified plans by verdict", ("verdict",))
        self.findings = metrics.counter("raa_safety_findings_total", "reasons of rejected plans by code", ("code",))
        self.actions = metrics.counter("raa_safety_actions_total", "decided actions by decision", ("decision",))
        self.approvals = metrics.counter("raa_safety_approvals_total", "questions put to people", ("question",))
        self.refused = metrics.counter("raa_safety_answers_refused_total", "answers of people that did not count")

    def count(self, event: Event) -> None:
        """Count a published event."""
        if isinstance(event, PlanReady):
            self.plans.labels("ready").inc()
        elif isinstance(event, PlanRejected):
            self.plans.labels("rejected").inc()
            for finding in event.findings:
                self.findings.labels(finding.code).inc()
        elif isinstance(event, ActionDecided):
            self.actions.labels(event.decision).inc()
        elif isinstance(event, ApprovalRequested):
            self.approvals.labels(event.question).inc()


def observer(metrics: SafetyMetrics, log: Logger) -> Callable[[Kind[Any], Unit[Any]], None]:
    """Make the function that the runtime calls after each stored unit."""

    def observe(kind: Kind[Any], unit: Unit[Any]) -> None:
        if kind is not TASK:
            return
        for event in unit.published:
            metrics.count(event)
            log.info("decided", tenant=unit.tenant, task=unit.task_id, published=event.event_type(), **_facts(event))
        if unit.state.refused and unit.state.refused[-1].at == unit.now:
            metrics.refused.inc()
            refusal = unit.state.refused[-1]
            log.warning(
                "answer_refused",
                tenant=unit.tenant,
                task=unit.task_id,
                approval=refusal.approval_id,
                decided_by=refusal.decided_by,
                why=refusal.why,
            )

    return observe


def _facts(event: Event) -> dict[str, Any]:
    wanted = {"plan_version", "step", "decision", "reason", "approval_id", "question", "tool"}
    facts = {name: getattr(event, name) for name in wanted if hasattr(event, name)}
    if isinstance(event, PlanRejected):
        facts["findings"] = [finding.code for finding in event.findings]
    return facts
