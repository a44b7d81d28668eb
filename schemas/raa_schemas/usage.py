"""What model calls cost."""

from typing import Literal

from pydantic import Field

from raa_schemas.event import Event, MicroUsd


class UsageRecorded(Event):
    """The router settled one model call."""

    model: str = Field(description="model that answered")
    tier: Literal["offline", "small", "medium", "large"] = Field("medium", description="tier of the model")
    purpose: str = Field("", description="what the call was for, for example plan")
    prompt_tokens: int = Field(0, ge=0, description="tokens sent")
    completion_tokens: int = Field(0, ge=0, description="tokens received")
    cost_microusd: MicroUsd | None = Field(None, description="cost in micro-USD; null: the model has no known price")
    latency_ms: int = Field(0, ge=0, description="milliseconds to the whole answer")
    fallback: bool = Field(False, description="whether an earlier choice failed")
    cached: bool = Field(False, description="whether a stored answer was replayed")
    request_digest: str = Field(description="digest of the request")
    asked: str = Field("", description="the model as it was asked for: a name, a tier, or default")
    answer_ref: str | None = Field(
        None, description="`blob:sha256/<hex>` of the answer as JSON, among the blobs of the task; null: not kept"
    )
