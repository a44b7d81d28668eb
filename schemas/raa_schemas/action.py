"""Actions that need a decision at run time, between executor and safety."""

from typing import Any, Literal

from pydantic import Field

from raa_schemas.plan import Grant
from raa_schemas.step import Effect, Risk, StepEvent

Reason = Literal["external", "no_grant", "grant_expired", "outcome_unknown"]
Decider = Literal["policy", "person"]
Decision = Literal["allowed", "denied", "happened", "not_happened", "give_up", "expired"]


class ActionProposed(StepEvent):
    """The executor asks whether a step with exactly these arguments may run, or what became of it."""

    tool: str = Field(description="tool name")
    args: dict[str, Any] | None = Field(None, description="the bound arguments, up to 64 KB")
    args_ref: str | None = Field(None, description="`blob:sha256/<hex>` of larger arguments")
    args_hash: str = Field(description="digest of the bound arguments")
    effect: Effect = Field(description="effect class of the tool")
    risk: Risk = Field(description="risk of the tool")
    reason: Reason = Field(description="why it asks")


class ActionDecided(StepEvent):
    """Safety's answer: a grant for the bound arguments, a denial, or what a person found out."""

    args_hash: str = Field(description="digest of the arguments that were decided on")
    decision: Decision = Field(description="the answer")
    by: Decider | None = Field(None, description="whose answer it is, where it is known; an expiry is the policy's")
    grant: Grant | None = Field(None, description="covers the bound arguments; only if allowed")
    reason: str = Field("", description="why, for a person")
