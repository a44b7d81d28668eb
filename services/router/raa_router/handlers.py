"""The router's decisions on one request: start it, join it or replay it; store its answer with its usage."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from raa_router.domain.chat import COMPLETE, EXPIRE, Answer, BudgetExhaustedError, Chat, KeyConflictError
from raa_runtime.unit import Completed, Unit
from raa_schemas.errors import error
from raa_schemas.usage import UsageRecorded

Standing = Literal["started", "joined", "replayed"]


@dataclass
class Asked:
    """A request as it arrived. `models` are those the budget covers; `standing` is set by the decision.

    `again` marks a further look of a request that already waits: it starts nothing that has failed meanwhile.
    """

    request: dict[str, Any]
    digest: str
    task_id: str
    purpose: str
    models: list[str]
    timeout: timedelta
    bounded: bool = False
    shortfall: str = ""
    again: bool = False
    standing: Standing = field(default="started")


def on_asked(unit: Unit[Chat], asked: Asked) -> None:
    """Start the call if its key is new or failed before; the same key with the same request never starts a second.

    Raises:
        KeyConflictError: the key was used for another request, or its answer is gone.
        BudgetExhaustedError: a call would have to be made, and the budget covers no model.
    """
    chat = unit.state
    if chat.phase != "new" and chat.digest != asked.digest:
        raise KeyConflictError("this idempotency key was used for another request; use a new key")
    if chat.phase == "expired":
        raise KeyConflictError("the answer under this idempotency key is past its retention; use a new key")
    if chat.phase in {"answered", "running"} or (chat.phase == "failed" and asked.again):
        asked.standing = "replayed" if chat.phase == "answered" else "joined"
        unit.ignore(f"the call is {chat.phase}")
        return
    if not asked.models:
        raise BudgetExhaustedError(asked.shortfall)
    asked.standing = "started"
    chat.phase, chat.digest, chat.problem = "running", asked.digest, None
    chat.task_id, chat.purpose, chat.created_at = asked.task_id, asked.purpose, unit.now.timestamp()
    unit.clear_timer(EXPIRE)
    args = {"request": asked.request, "models": asked.models, "bounded": asked.bounded}
    unit.start(COMPLETE, args, effect="keyed", timeout=asked.timeout)


def on_completed(unit: Unit[Chat], done: Completed, *, retention: timedelta) -> None:
    """Store the answer and record what it used in one write; a failure is told, and forgotten by the next try."""
    chat = unit.state
    unit.set_timer(EXPIRE, unit.now + retention)
    if done.outcome != "done":
        chat.phase = "failed"
        chat.problem = done.error or error("model_unavailable")
        return
    answer = Answer.model_validate(done.result)
    chat.phase, chat.answer = "answered", answer
    unit.publish(
        UsageRecorded(
            task_id=chat.task_id,
            model=answer.model,
            tier=answer.tier,
            purpose=chat.purpose,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_microusd=answer.cost_microusd,
            latency_ms=answer.latency_ms,
            fallback=answer.fallback,
            request_digest=chat.digest,
        )
    )


def on_expired(unit: Unit[Chat], _timer: str) -> None:
    """Forget the answer; its key stays known as used."""
    unit.close()
