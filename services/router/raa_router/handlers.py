"""What becomes of a call: its answer is stored with its usage, its failure is told, its time runs out."""

from datetime import timedelta

from raa_router.domain.chat import EXPIRE, KEPT, Answer, Chat
from raa_runtime.unit import Completed, Unit
from raa_schemas.errors import error
from raa_schemas.usage import UsageRecorded


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
            asked=chat.asked,
            answer_ref=done.result.get(KEPT),
        )
    )


def on_expired(unit: Unit[Chat], _timer: str) -> None:
    """Forget the answer; its key stays known as used."""
    unit.close()
