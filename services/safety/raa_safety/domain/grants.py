"""Writes signed grants: the permission to run one step with one argument template, or with exactly these arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from raa_safety.domain.policy import Policy
from raa_safety.ports import Signer
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.plan import Grant, Plan
from raa_schemas.tool import ToolSpec


@dataclass(frozen=True, slots=True)
class Terms:
    """Where and until when grants are valid, and by whose word."""

    deployment: str
    tenant: str
    task: str
    plan_version: int
    policy: Policy
    expires_at: datetime
    signer: Signer

    def grant(self, step: str, tool: str, args_hash: str, covers: Literal["template", "bound"]) -> Grant:
        """Sign one grant; `args_hash` is the digest of what it covers."""
        grant = Grant(
            step=step,
            tool=tool,
            args_hash=args_hash,
            covers=covers,
            policy_version=self.policy.version,
            expires_at=self.expires_at,
            key_id=self.signer.key_id,
            signature="",
        )
        content = grant.signed_content(self.deployment, self.tenant, self.task, self.plan_version)
        return grant.model_copy(update={"signature": self.signer.sign(canonical_bytes(content))})


def grant_plan(plan: Plan, tools: Mapping[str, ToolSpec], terms: Terms) -> dict[str, Grant]:
    """Grant every step whose tool needs no approval, by the digest of its argument template."""
    return {
        step.id: terms.grant(step.id, step.tool, digest(step.args), "template")
        for step in plan.steps
        if terms.policy.granted_in_plan(tools[step.tool])
    }


def expiry(now: datetime, lifetime: timedelta, deadline: datetime | None) -> datetime:
    """End a grant after its lifetime, and never later than its task."""
    return min(now + lifetime, deadline) if deadline else now + lifetime
