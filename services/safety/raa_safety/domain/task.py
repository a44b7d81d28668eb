"""What safety remembers of a task: the plan it verified, and the questions that wait for people."""

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_safety.domain.approvals import Approval
from raa_schemas.approval import Question
from raa_schemas.plan import Plan

REFUSALS_KEPT: Final = 20
WAITING: Final = "waiting_since"


class Refusal(State):
    """An answer that did not count, for the audit."""

    at: datetime
    approval_id: str
    decided_by: str
    why: str


class SafetyTask(State):
    """One task. `deadline` stands still while an approval is open: then `paused_at` says since when."""

    phase: Literal["open", "ended"] = "open"
    plan_version: int = 0
    steps: dict[str, str] = Field(default_factory=dict)
    deadline: datetime | None = None
    paused_at: datetime | None = None
    approvals: dict[str, Approval] = Field(default_factory=dict)
    asked: int = 0
    refused: list[Refusal] = Field(default_factory=list)

    def put_in_force(self, plan: Plan) -> None:
        """Remember the verified plan: which step may use which tool."""
        self.plan_version = plan.version
        self.steps = {step.id: step.tool for step in plan.steps}

    def in_force(self, plan_version: int, step: str, tool: str) -> bool:
        """Say whether the newest verified plan has this step with this tool."""
        return plan_version == self.plan_version and self.steps.get(step) == tool

    def open_approval(self, approval: Approval, now: datetime) -> None:
        """Let the task wait for people; its deadline stands still."""
        self.paused_at = self.paused_at or now
        self.approvals[approval.approval_id] = approval

    def close_approval(self, approval_id: str, now: datetime) -> Approval:
        """Take a question off the list; with the last one the deadline runs on."""
        approval = self.approvals.pop(approval_id)
        if not self.approvals and self.paused_at:
            self.deadline = self.deadline and self.deadline + (now - self.paused_at)
            self.paused_at = None
        return approval

    def asks(self, plan_version: int, step: str, args_hash: str, question: Question) -> bool:
        """Say whether this very question is open."""
        return any(one.asks(plan_version, step, args_hash, question) for one in self.approvals.values())

    def expired(self, now: datetime) -> list[Approval]:
        """List the approvals whose time is over."""
        return [approval for approval in self.approvals.values() if approval.expires_at <= now]

    def refuse(self, refusal: Refusal) -> None:
        """Keep the newest refused answers."""
        self.refused = [*self.refused[1 - REFUSALS_KEPT :], refusal]

    def end(self) -> None:
        """Forget what no longer matters once the task is over."""
        self.phase, self.steps, self.approvals, self.paused_at = "ended", {}, {}, None


def tombstone(state: SafetyTask) -> SafetyTask:
    """Keep of an ended task only that it ended."""
    return SafetyTask(phase=state.phase, plan_version=state.plan_version)


TASK = Kind("task", SafetyTask, tombstone=tombstone, indexes=(WAITING,))
