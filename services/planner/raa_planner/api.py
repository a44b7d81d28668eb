"""The planner's HTTP routes: where a task stands."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException
from pydantic import BaseModel

from raa_planner.domain.bounds import stalled_until
from raa_planner.domain.task import Phase, Task
from raa_schemas.ids import DEFAULT_TENANT, TENANT_PATTERN, TenantId

Find = Callable[[TenantId, str], Awaitable[Task | None]]


class TaskSummary(BaseModel):
    """Where a task stands, as its planner stored it. Of an ended task only phase and outcome stay for long."""

    task_id: str
    phase: Phase
    outcome: str | None
    plan_version: int
    attempts: int
    tries_left: int
    steps_done: int
    steps_total: int
    deadline: datetime | None
    waiting_for_approvals: list[str]
    stalled_until: datetime | None
    dead_letters: list[str]
    cost_microusd: int
    memory_degraded: bool


def routes(find: Find) -> APIRouter:
    """Build the routes over the stored tasks."""
    router = APIRouter(prefix="/v1")

    @router.get("/tasks/{task_id}")
    async def task(
        task_id: str,
        x_raa_tenant: Annotated[str, Header(pattern=TENANT_PATTERN)] = DEFAULT_TENANT,
    ) -> TaskSummary:
        """Say where a task of this tenant stands."""
        found = await find(TenantId(x_raa_tenant), task_id)
        if found is None:
            raise HTTPException(404, f"tenant {x_raa_tenant!r} has no task {task_id!r}; ids are those of task.created")
        return summary(task_id, found)

    return router


def summary(task_id: str, task: Task) -> TaskSummary:
    """Tell a client what is stored of a task."""
    return TaskSummary(
        task_id=task_id,
        phase=task.phase,
        outcome=task.outcome,
        plan_version=task.plan_version,
        attempts=task.executed,
        tries_left=task.tries_left,
        steps_done=task.steps_done,
        steps_total=task.steps_total,
        deadline=task.deadline,
        waiting_for_approvals=sorted(task.approvals),
        stalled_until=stalled_until(task),
        dead_letters=sorted(filter(None, task.stalls)),
        cost_microusd=task.cost_microusd,
        memory_degraded=task.memory_degraded,
    )
