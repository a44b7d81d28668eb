"""Settings of the planner, on top of those every service has."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from raa_planner.domain.instructions import VERSION
from raa_runtime.settings import ServiceSettings


class PlannerSettings(ServiceSettings):
    """What the planner needs to know. The variable of a field is `RAA_` and its name in capitals."""

    memory_url: str = Field("http://127.0.0.1:8084", description="address of the memory service")
    router_url: str = Field("http://127.0.0.1:8085", description="address of the router")
    executor_url: str = Field("http://127.0.0.1:8082", description="address of an executor, for its list of tools")
    model: str = Field("default", description="model to plan with, by its name at the router")

    prompt: str = Field(VERSION, description="version of the instructions to the model, or a file that holds others")

    input_roots: list[Path] = Field(default_factory=list, description="folders `file:` inputs lie below; empty: none")
    reply_topics: frozenset[str] = Field(frozenset(), description="topics a task may name as reply_to")
    tenant_topics: bool = Field(False, description="copy task.done to tenants.<tenant>.task.done")

    max_active_tasks: int = Field(256, ge=1, le=100_000, description="tasks begun and not ended, per planner process")
    max_active_tasks_per_tenant: int = Field(192, ge=1, le=100_000, description="the same, of one tenant")
    tenant_weights: dict[str, float] = Field(default_factory=dict, description="JSON: share by tenant; others have 1")
    ageing_seconds: float = Field(30, gt=0, description="waiting that is worth one level of priority")

    recall_timeout_seconds: float = Field(1, gt=0, description="after this a task is planned without memory")
    prepare_timeout_seconds: float = Field(600, gt=0, description="longest intake of a task's inputs")
    plan_timeout_seconds: float = Field(300, gt=0, description="longest wait for a plan, retries included")
    redrive_window_seconds: float = Field(
        3600, gt=0, le=30 * 86_400, description="how long a task waits for the redrive of a dead letter"
    )
    blob_seconds: float = Field(31 * 86_400, gt=0, description="how long the files of a task outlive its end")
    tools_refresh_seconds: float = Field(10, gt=0, description="how often the list of tools is read again")

    @property
    def ageing(self) -> timedelta:
        """Give `ageing_seconds` as a duration."""
        return timedelta(seconds=self.ageing_seconds)
