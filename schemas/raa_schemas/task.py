"""The task as its client sees it: created, its status, done; and what parks it."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from raa_schemas.artifact import Artifact, Input
from raa_schemas.errors import ErrorInfo
from raa_schemas.event import Event, Instant, MicroUsd, Part
from raa_schemas.ids import TASK_ID_PATTERN
from raa_schemas.plan import Citations, Plan

MICROUSD_PER_USD = 1_000_000
DEFAULT_DEADLINE_SECONDS = 86_400
State = Literal["admitted", "planning", "verifying", "running", "reflecting", "waiting_approval", "stalled", "ended"]
TaskOutcome = Literal["succeeded", "failed", "cancelled", "rejected", "budget_exhausted", "expired"]


class Constraints(Part):
    """What a task may use."""

    deadline_seconds: Annotated[float, Field(gt=0, le=30 * 86_400)] = Field(
        DEFAULT_DEADLINE_SECONDS, description="seconds from admission; while an approval is open it stands still"
    )
    budget_usd: Decimal | None = Field(
        None, ge=0, le=1_000_000_000, description="US dollars as a decimal; null: no limit"
    )
    max_steps: int = Field(20, ge=1, le=200, description="steps per plan")
    max_attempts: int = Field(3, ge=1, le=20, description="plans that are executed")
    priority: int = Field(5, ge=0, le=9, description="0 is served last, 9 first")
    allowed_tools: list[str] | None = Field(None, description="tool names; null allows all the deployment offers")
    memory: Literal["on", "off"] = Field("on", description="off neither recalls nor learns")
    not_before: Instant | None = Field(None, description="do not plan earlier")

    @property
    def budget_microusd(self) -> int | None:
        """Give the budget in micro-USD, rounded down."""
        return None if self.budget_usd is None else int(self.budget_usd * MICROUSD_PER_USD)


class TaskCreated(Event):
    """A client wants something done. Only the goal is required."""

    task_id: str | None = Field(
        None,
        pattern=TASK_ID_PATTERN,  # type: ignore[assignment]  # filled at intake
        description="chosen by the client, unique per tenant; else derived from the record",
    )
    goal: str = Field(min_length=1, max_length=16_384, description="what is wanted, in words")
    inputs: list[Input] = Field(default_factory=list, max_length=100, description="files; names are unique")
    success_check: str | None = Field(None, max_length=500, description="an expression of the check language")
    plan: Plan | None = Field(None, description="a ready-made plan: skips the model, nothing else")
    constraints: Constraints = Field(default_factory=Constraints, description="what the task may use")
    session_id: str | None = Field(None, max_length=128, description="tasks of a session are done in order")
    user_id: str | None = Field(None, max_length=128, description="who asked")
    reply_to: str | None = Field(None, max_length=249, description="a further topic for task.done, from the allow-list")
    resubmits: str | None = Field(None, max_length=128, description="the ended task that this one does again")

    @field_validator("goal")
    @classmethod
    def goal_says_something(cls, goal: str) -> str:
        """Refuse a goal of white space."""
        if not goal.strip():
            raise ValueError("the goal is empty; say in words what is wanted")
        return goal

    @field_validator("inputs")
    @classmethod
    def names_are_unique(cls, inputs: list[Input]) -> list[Input]:
        """Refuse two inputs of one name."""
        names = [item.name for item in inputs]
        if len(set(names)) != len(names):
            raise ValueError("two inputs have the same name; names must be unique within a task")
        return inputs


class TaskStatus(Event):
    """Where a task stands; the topic keeps the newest per task."""

    state: State = Field(description="what it does now")
    attempt: int = Field(0, ge=0, description="attempts begun")
    steps_done: int = Field(0, ge=0, description="steps of the current plan settled")
    steps_total: int = Field(0, ge=0, description="steps of the current plan")
    waiting_for: str | None = Field(None, description="what it waits for, for a person")
    waiting_until: Instant | None = Field(None, description="until when")
    cost_microusd: MicroUsd = Field(0, description="cost so far")
    memory_degraded: bool = Field(False, description="planned without memory, because it did not answer")


class Durations(Part):
    """Where the time of a task went, in milliseconds."""

    total_ms: int = Field(0, ge=0, description="from the record's time to the end")
    planning_ms: int = Field(0, ge=0, description="waiting for recall and model")
    running_ms: int = Field(0, ge=0, description="from plan.ready to the terminal step.done, all attempts")


class Origin(Part):
    """The record a task came from."""

    topic: str = Field(description="topic")
    partition: int = Field(ge=0, description="partition")
    offset: int = Field(ge=0, description="offset")


class TaskDone(Event):
    """The end of a task. There is exactly one event id of this type per task."""

    outcome: TaskOutcome = Field(description="how it ended")
    result: Any = Field(None, description="the result, up to 64 KB")
    result_ref: str | None = Field(None, description="`blob:sha256/<hex>` of a larger result")
    error: ErrorInfo | None = Field(None, description="why it did not succeed")
    checked: bool = Field(False, description="whether a success check held; false: nobody checked the value")
    artifacts: list[Artifact] = Field(default_factory=list, description="files the task wrote")
    lessons_used: list[str] = Field(default_factory=list, description="lessons the last plan applied")
    lessons_learned: list[str] = Field(default_factory=list, description="lessons this task confirmed")
    cost_microusd: MicroUsd = Field(0, description="what it cost")
    attempts: int = Field(0, ge=0, description="plans that were executed")
    durations: Durations = Field(default_factory=Durations, description="where the time went")
    memory_degraded: bool = Field(False, description="planned without memory at least once")
    citations: Citations | None = Field(None, description="digests of what the last decision on a plan was made from")
    trace_id: str | None = Field(None, description="W3C trace id, 32 hexadecimal digits")
    origin: Origin | None = Field(None, description="the record it came from")


class TaskStalled(Event):
    """An event of this task became a dead letter; without a redrive in time the task ends as failed."""

    group: str = Field(description="consumer group")
    dead_letter_topic: str = Field(description="where it lies")
    dead_type: str = Field(description="type of the event that died")
    dead_id: str | None = Field(None, description="its event id")
    error_class: str = Field(description="class of the error")
    message: str = Field(description="what went wrong")
    letter: str | None = Field(None, max_length=64, description="id of the dead letter")
    fingerprint: str | None = Field(None, max_length=64, description="what dead letters of the same cause share")
