"""What the router remembers of one request: whether it runs, what was answered, and until when that is replayed."""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from raa_router.domain.catalogue import Tier
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_schemas.errors import ErrorInfo


class KeyConflictError(Exception):
    """An idempotency key came again with another request, or after its answer was deleted."""


class BudgetExhaustedError(Exception):
    """What is left of the budget does not cover the worst case of any model that could answer."""


class Answer(BaseModel):
    """What a model said, and what that took."""

    content: str = Field(description="the text, tolerated")
    finish_reason: str = Field("stop", description="why the model stopped")
    model: str = Field(description="the configured name")
    tier: Tier = Field("medium", description="its tier")
    prompt_tokens: int = Field(0, ge=0, description="tokens sent")
    completion_tokens: int = Field(0, ge=0, description="tokens received")
    cost_microusd: int | None = Field(None, ge=0, description="null: no known price")
    latency_ms: int = Field(0, ge=0, description="milliseconds to the whole answer")
    fallback: bool = Field(False, description="whether an earlier choice failed")


class Chat(State):
    """One request by its idempotency key."""

    phase: Literal["new", "running", "answered", "failed", "expired"] = "new"
    digest: str = ""
    task_id: str = ""
    purpose: str = ""
    asked: str = ""
    answer: Answer | None = None
    problem: ErrorInfo | None = None
    created_at: float = 0.0

    @property
    def settled(self) -> Answer | ErrorInfo | None:
        """Give what a waiting request is told; None while it runs."""
        if self.phase == "answered":
            return self.answer
        return self.problem if self.phase == "failed" else None


def _tombstone(state: Chat) -> Chat:
    return Chat(phase="expired", digest=state.digest, task_id=state.task_id, created_at=state.created_at)


CHAT: Final = Kind("chat", Chat, tombstone=_tombstone)
COMPLETE: Final = "complete"
EXPIRE: Final = "expire"
KEPT: Final = "answer_ref"
"""Beside the answer in the outcome of the activity: where it lies among the blobs of its task."""


def completion(answer: Answer, chat_id: str, digest: str, created: int, *, cached: bool) -> dict[str, Any]:
    """Write the answer in the form of OpenAI, with what the router knows beside it under `raa`."""
    usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens,
             "total_tokens": answer.prompt_tokens + answer.completion_tokens}  # fmt: skip
    choice = {"index": 0, "message": {"role": "assistant", "content": answer.content},
              "finish_reason": answer.finish_reason}  # fmt: skip
    return {
        "id": chat_id,
        "object": "chat.completion",
        "created": created,
        "model": answer.model,
        "choices": [choice],
        "usage": usage,
        "raa": {
            "model": answer.model,
            "tier": answer.tier,
            "cost_microusd": answer.cost_microusd,
            "fallback": answer.fallback,
            "cached": cached,
            "request_digest": digest,
        },
    }
