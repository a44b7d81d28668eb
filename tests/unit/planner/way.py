"""Drives the planner's handlers as the runtime would, without a store: one aggregate, its timers and activities."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from raa_planner.domain.planning import ModelSaid, Prepared
from raa_planner.domain.scheduler import FairQueue, Policy
from raa_planner.domain.task import TASK, Task
from raa_planner.handlers import HORIZON, PLAN, PREPARE, TURN, TaskHandlers
from raa_planner.standing import APPROVAL, DEADLINE, STALLED
from raa_runtime.state.aggregate import Aggregate
from raa_runtime.unit import ActivityOutcome, Completed, Origin, Received, Unit
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.cancel import CancelRequested
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.event import Event
from raa_schemas.ids import AggregateId
from raa_schemas.plan import Finding, Limits, Plan, PlanReady, PlanRejected, Step
from raa_schemas.redrive import RedriveDone, RedriveOutcome
from raa_schemas.reflection import CheckReport, Episode, Hypothesis, Label, Lesson, ReflectionDone, Scope, When
from raa_schemas.step import StepDone, Usage
from raa_schemas.task import TaskCreated, TaskDone, TaskStalled, TaskStatus

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
TASK_ID = "t1"
E = TypeVar("E", bound=Event)


def plan(expression: str = "1 + 1", **more: Any) -> Plan:
    step = Step(id="sum", tool="calculate", args={"expression": expression})
    return Plan(steps=[step], result={"ref": "sum"}, **more)


def handlers_of(policy: Policy | None = None, **more: Any) -> TaskHandlers:
    return TaskHandlers(FairQueue(policy or Policy()), **more)


class Way:
    """One task on its way. `said` holds everything published on its own topic, `copies` the topics of copies."""

    def __init__(self, handlers: TaskHandlers | None = None, task_id: str = TASK_ID) -> None:
        self.handlers = handlers or handlers_of()
        self.aggregate = Aggregate(AggregateId(f"default/{task_id}"), "default", task_id, Task())
        self.task_id = task_id
        self.now: datetime = NOON
        self.said: list[Event] = []
        self.copies: list[str] = []
        self.ignored: str | None = None
        self._events = 0

    @property
    def state(self) -> Task:
        return self.aggregate.state

    def all_of(self, kind: type[E]) -> list[E]:
        return [event for event in self.said if isinstance(event, kind)]

    def last(self, kind: type[E]) -> E:
        return self.all_of(kind)[-1]

    @property
    def done(self) -> TaskDone:
        (only,) = self.all_of(TaskDone)
        return only

    @property
    def error(self) -> ErrorInfo:
        assert self.done.error is not None
        return self.done.error

    @property
    def phase(self) -> str:
        return self.state.phase

    @property
    def told(self) -> str:
        """What the newest task.status says."""
        return self.status.state

    @property
    def status(self) -> TaskStatus:
        return self.last(TaskStatus)

    # what the runtime does

    def _unit(self) -> Unit[Task]:
        return Unit(TASK, deepcopy(self.aggregate), self.now, "planner", "", "test:1:0")

    def _store(self, unit: Unit[Task]) -> None:
        self.ignored = unit.ignored
        if unit.ignored is not None:
            assert not unit.published
            return
        text = unit.state.model_dump_json(by_alias=True)
        unit.aggregate.state = Task.model_validate_json(text)
        assert unit.state.model_dump_json(by_alias=True) == text
        unit.aggregate.version += 1
        for event, entry in zip(unit.published, unit.aggregate.outbox, strict=True):
            if entry.topic == event.event_type():
                self.said.append(event)
            else:
                self.copies.append(entry.topic)
        unit.aggregate.outbox = []
        self.aggregate = unit.aggregate

    def on(self, handler: Any, event: Event, at: datetime | None = None) -> "Way":
        unit = self._unit()
        self._events += 1
        where = Origin(event.event_type(), 0, self._events)
        arrived = Received(event, f"event-{self._events}", "default", at or self.now, where, "digest")
        if unit.is_new:
            unit.take_context(arrived)
        handler(unit, arrived)
        self._store(unit)
        return self

    def fire(self) -> str:
        """Let the time come of the earliest timer."""
        name, at = min(self.aggregate.timers.items(), key=lambda item: (item[1], item[0]))
        self.now = max(self.now, datetime.fromtimestamp(at, NOON.tzinfo))
        unit = self._unit()
        unit.aggregate.timers.pop(name)
        way = self.handlers
        {
            DEADLINE: way.on_deadline,
            STALLED: way.on_stall_over,
            APPROVAL: way.on_approval_expired,
            TURN: way.on_turn,
            HORIZON: way.on_horizon,
        }[name](unit, name)
        assert unit.ignored is None, "that a timer fired must be stored"
        self._store(unit)
        return name

    def complete(
        self, kind: str, result: Any = None, *, outcome: ActivityOutcome = "done", problem: ErrorInfo | None = None
    ) -> "Way":
        """End the activity of this kind that runs."""
        unit = self._unit()
        (name,) = [one.id for one in unit.activities.values() if one.kind == kind]
        one = unit.aggregate.activities.pop(name)
        done = Completed(one.id, kind, one.args, one.key, one.attempt, one.epoch, outcome, result, problem, 5)
        {PREPARE: self.handlers.on_prepared, PLAN: self.handlers.on_planned}[kind](unit, done)
        assert unit.ignored is None, "that an activity ended must be stored"
        self._store(unit)
        return self

    # what others say

    def created(self, goal: str = "what is 1 + 1", at: datetime | None = None, **more: Any) -> "Way":
        return self.on(self.handlers.on_task_created, TaskCreated(task_id=self.task_id, goal=goal, **more), at)

    def prepared(self, **more: Any) -> "Way":
        return self.complete(PREPARE, Prepared(**more).model_dump(mode="json", by_alias=True))

    def planned(self, made: Plan | None = None, **more: Any) -> "Way":
        said = ModelSaid(plan=made, **more) if made or more else ModelSaid(plan=plan())
        return self.complete(PLAN, said.model_dump(mode="json", by_alias=True))

    def ready(self, version: int | None = None) -> "Way":
        made = self.state.plan or plan()
        event = PlanReady(
            task_id=self.task_id,
            goal="g",
            limits=Limits(deadline=self.now),
            plan=made.model_copy(update={"version": version or made.version}),
        )
        return self.on(self.handlers.on_plan_ready, event)

    def rejected(self, code: str = "bad_reference", version: int | None = None) -> "Way":
        finding = Finding(code=code, message=f"it is {code}", step="sum")
        event = PlanRejected(task_id=self.task_id, plan_version=version or self._version, findings=[finding])
        return self.on(self.handlers.on_plan_rejected, event)

    @property
    def _version(self) -> int:
        return max(1, self.state.plan_version)

    def step(
        self,
        status: str = "succeeded",
        version: int | None = None,
        problem: ErrorInfo | None = None,
        cost: int = 0,
        **more: Any,
    ) -> "Way":
        failed = {"outcome": "failed", "error": problem or error("not_numeric")} if status == "failed" else {}
        event = StepDone.model_validate(
            {
                "task_id": self.task_id,
                "plan_version": version or self._version,
                "step": "sum",
                "tool": "calculate",
                "run_seq": 1,
                "run_status": status,
                "outcome": "succeeded",
                "steps_done": 1,
                "steps_total": 1,
                "usage": Usage(cost_microusd=cost),
                "result": 2 if status == "succeeded" else None,
                **failed,
                **more,
            }
        )
        return self.on(self.handlers.on_step_done, event)

    def reflected(self, verdict: str = "accept", version: int | None = None, **more: Any) -> "Way":
        label = Label(value=1 if verdict == "accept" else 0, source="unchecked", confidence=0.5)
        event = ReflectionDone.model_validate(
            {
                "task_id": self.task_id,
                "plan_version": version or self._version,
                "verdict": verdict,
                "label": label,
                "checked": False,
                "reason": "because",
                "episode": Episode(attempt=1, plan_hash="sha256:1"),
                **more,
            }
        )
        return self.on(self.handlers.on_reflection_done, event)

    def asked(self, approval_id: str = "a1", seconds: float = 600, version: int | None = None, **more: Any) -> "Way":
        event = ApprovalRequested(
            task_id=self.task_id,
            plan_version=version or self._version,
            step="sum",
            approval_id=approval_id,
            question="may_run",
            tool="mail",
            args_hash="h",
            expires_at=self.now + timedelta(seconds=seconds),
            **more,
        )
        return self.on(self.handlers.on_approval_requested, event)

    def decided(self, approval_id: str = "a1", verdict: str = "approve", by: str = "key-1", args: str = "h") -> "Way":
        event = ApprovalDecided.model_validate(
            {
                "task_id": self.task_id,
                "plan_version": self._version,
                "step": "sum",
                "approval_id": approval_id,
                "args_hash": args,
                "verdict": verdict,
                "decided_by": by,
                "signature": "s",
            }
        )
        return self.on(self.handlers.on_approval_decided, event)

    def stalled(self, letter: str | None = "a1", group: str = "executor", dead_type: str = "plan.ready") -> "Way":
        event = TaskStalled(
            task_id=self.task_id,
            group=group,
            dead_letter_topic=f"{group}.dlq",
            dead_type=dead_type,
            error_class="KeyError",
            message="a defect",
            letter=letter,
            fingerprint="f1",
        )
        return self.on(self.handlers.on_task_stalled, event)

    def solved(self, letter: str = "a1", outcome: RedriveOutcome = "handled", group: str = "executor") -> "Way":
        event = RedriveDone(task_id=self.task_id, group=group, letter=letter, outcome=outcome, reason="a drill")
        return self.on(self.handlers.on_redrive_done, event)

    def cancelled(self, by: str = "client") -> "Way":
        return self.on(self.handlers.on_cancel_requested, CancelRequested(task_id=self.task_id, requested_by=by))

    def later(self, seconds: float) -> "Way":
        self.now += timedelta(seconds=seconds)
        return self

    # short cuts

    def to_planning(self, **more: Any) -> "Way":
        return self.created(**more).prepared()

    def to_verifying(self, made: Plan | None = None, **more: Any) -> "Way":
        return self.to_planning(**more).planned(made)

    def to_running(self, **more: Any) -> "Way":
        return self.to_verifying(**more).ready()

    def to_reflecting(self, **more: Any) -> "Way":
        return self.to_running(**more).step()


def lesson(name: str = "les_1", sha256: str = "a" * 64, patch: dict[str, Any] | None = None) -> Lesson:
    return Lesson(
        id=name,
        kind="recover",
        scope=Scope(family="table.aggregate", tool="table.query"),
        when=When(source_sha256=sha256, schema_hash="sch_1"),
        text="Numbers use a decimal comma.",
        then={"args": patch or {"table": {"read": {"decimal": ","}}}},
    )


def hypothesis() -> Hypothesis:
    return Hypothesis(kind="inspect_values", tool="table.profile", file="a.csv", columns=["x"], because={"actual": -1})


def failed_check() -> CheckReport:
    return CheckReport(
        check="result >= 0", value=False, failed_atom={"path": "result", "op": ">=", "bound": 0, "actual": -34.2}
    )
