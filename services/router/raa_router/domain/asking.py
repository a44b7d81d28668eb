"""Decides how a request stands to its idempotency key: it starts the call, joins it, or replays its answer."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from raa_router.domain.chat import COMPLETE, EXPIRE, BudgetExhaustedError, Chat, KeyConflictError
from raa_runtime.unit import Unit

Standing = Literal["started", "joined", "replayed"]


@dataclass
class Asked:
    """A request as it arrived. `models` are those the budget covers; `standing` is set by the decision.

    `again` marks a further look of a request that already waits: it starts nothing that has failed meanwhile.
    `for_task` says that the request named a task: its answer is kept among the task's blobs.
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
    for_task: bool = False
    standing: Standing = field(default="started")


def ask(unit: Unit[Chat], asked: Asked) -> None:
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
    chat.asked = asked.request.get("model", "")
    unit.clear_timer(EXPIRE)
    args = {"request": asked.request, "models": asked.models, "bounded": asked.bounded}
    args |= {"task": asked.task_id} if asked.for_task else {}
    unit.start(COMPLETE, args, effect="keyed", timeout=asked.timeout)
