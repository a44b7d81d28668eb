"""Approvals: the exact action put before a person, and the person's signed decision."""

from typing import Any, Literal

from pydantic import Field

from raa_schemas.event import Instant, Part
from raa_schemas.step import StepEvent

Question = Literal["may_run", "did_it_happen"]
Verdict = Literal["approve", "deny", "happened", "not_happened", "give_up"]


class ApprovalRequested(StepEvent):
    """A person has to decide; the task waits."""

    approval_id: str = Field(description="names this request")
    question: Question = Field(description="may_run takes approve or deny; did_it_happen the other three")
    tool: str = Field(description="tool name")
    args: dict[str, Any] | None = Field(None, description="the exact arguments")
    args_ref: str | None = Field(None, description="`blob:sha256/<hex>` of larger arguments")
    args_hash: str = Field(description="digest of the arguments; the decision must cite it")
    effect_summary: str = Field("", description="what will happen, from the tool's declaration, not from a model")
    approvers: list[str] = Field(default_factory=list, description="key ids that may decide")
    quorum: int = Field(1, ge=1, description="how many have to agree")
    expires_at: Instant = Field(description="without a decision by then the action is denied")


class OpenApproval(Part):
    """An approval that still waits, as safety lists it (GET /v1/approvals)."""

    task_id: str = Field(description="the task that waits")
    approval_id: str = Field(description="names the request")
    plan_version: int = Field(ge=1, description="which plan")
    step: str = Field(description="step id within the plan")
    question: Question = Field(description="what is asked")
    tool: str = Field(description="tool name")
    args: dict[str, Any] | None = Field(None, description="the exact arguments up to 4 KB; else see approval.requested")
    args_ref: str | None = Field(None, description="`blob:sha256/<hex>` of larger arguments")
    args_hash: str = Field(description="digest of the arguments; the decision must cite it")
    effect_summary: str = Field("", description="what will happen, from the tool's declaration")
    approvers: list[str] = Field(default_factory=list, description="key ids that may decide; empty: every known key")
    quorum: int = Field(1, ge=1, description="how many have to agree")
    answers: dict[str, Verdict] = Field(default_factory=dict, description="given so far, by key id")
    asked_at: Instant = Field(description="since when it waits")
    expires_at: Instant = Field(description="without a decision by then the action is denied")


class OpenApprovals(Part):
    """All approvals of a tenant that still wait."""

    approvals: list[OpenApproval] = Field(description="oldest first")


class ApprovalDecided(StepEvent):
    """A person's decision, signed over the exact action."""

    approval_id: str = Field(description="the request this decides")
    args_hash: str = Field(description="digest of the arguments the person saw")
    verdict: Verdict = Field(description="the decision")
    decided_by: str = Field(description="key id of the person")
    reason: str = Field("", max_length=2_000, description="why")
    signature: str = Field(description="Ed25519 over `signed_content`, base64")

    def signed_content(self, deployment: str, tenant: str) -> dict[str, Any]:
        """Build the JSON value whose canonical bytes the person signs."""
        signed = {"task_id", "plan_version", "step", "approval_id", "args_hash", "verdict", "decided_by", "reason"}
        return self.model_dump(mode="json", include=signed) | {"deployment": deployment, "tenant": tenant}
