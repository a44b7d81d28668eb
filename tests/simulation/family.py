"""A small family of services with the real ones' events: four hops, and an activity of every effect class.

They are strict where the real ones forgive: what comes out of order shows in what they publish.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field

from raa_runtime.activities import ActivityFailed, Call
from raa_runtime.dispatch import On
from raa_runtime.errors import DependencyUnavailable, TransientError
from raa_runtime.platform import Platform
from raa_runtime.service import Does, Service, Timer
from raa_runtime.settings import ServiceSettings
from raa_runtime.simulated.world import Program, World
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Completed, Received, Unit
from raa_schemas.cancel import CancelRequested
from raa_schemas.errors import error
from raa_schemas.plan import Limits, Plan, PlanProposed, PlanReady, Step
from raa_schemas.reflection import Episode, Label, ReflectionDone
from raa_schemas.step import StepDone, StepStarted
from raa_schemas.task import TaskCreated, TaskDone, TaskStalled, TaskStatus
from tests.simulation.tools import ToolClient, ToolServer, place_of

EFFECTS = ("read", "keyed", "checkable", "once")
HOUR = timedelta(hours=1)


class Way(State):
    """The planner's side of a task."""

    phase: Literal["new", "marked", "planning", "running", "ended"] = "new"
    goal: str = ""
    counted: int = 0


class Check(State):
    """Safety's side."""

    passed: bool = False


class Run(State):
    """The executor's side."""

    steps: list[str] = Field(default_factory=list)
    settled: int = 0
    failed: bool = False
    stopping: bool = False


class Case(State):
    """The reflector's side."""

    steps: int = 0
    goal: str = ""
    judged: bool = False


WAY = Kind("task", Way, lambda way: Way(phase=way.phase))
CHECK = Kind("check", Check)
RUN = Kind("run", Run, lambda run: Run(settled=run.settled))
CASE = Kind("case", Case)


@dataclass
class Family:
    """The services of one world, and what its tests may change."""

    services: ClassVar = ("planner", "safety", "executor", "reflector")
    world: World
    tools: ToolServer
    hiccups: float = 0.0
    troubles: dict[str, float] = field(default_factory=dict)
    before_run: Callable[[Unit[Any]], None] = lambda _: None
    way: Kind[Any] = field(default_factory=lambda: WAY)
    run: Kind[Any] = field(default_factory=lambda: RUN)

    def hiccup(self, event: str) -> None:
        """Fail for a passing reason now and then, for some seconds, so that events are deferred."""
        chance, now = self.world.chance, self.world.loop.now
        if event not in self.troubles:
            self.troubles[event] = now + chance.between(0.1, 3.0) if chance.happens(self.hiccups) else now
        if self.hiccups and now < self.troubles[event]:
            raise TransientError("a passing trouble", retry_after=chance.between(0.1, 3.0))

    def task(self, task: str) -> TaskCreated:
        """Make up a task."""
        chance = self.world.chance
        return TaskCreated(task_id=task, goal=" ".join(chance.one_of(EFFECTS) for _ in range(1 + chance.up_to(3))))

    def program(self, service: str, number: int = 1, skew: float = 0.0) -> Program:
        """Add one instance of a service to the world."""
        build = {"planner": self.planner, "safety": self.safety, "executor": self.executor,
                 "reflector": self.reflector}[service]  # fmt: skip
        return self.world.add(Program(f"{service}{number}", service, build, skew=skew))

    # planner

    def planner(self, settings: ServiceSettings, platform: Platform) -> Service:
        return Service(
            "planner", settings, platform, kinds=[self.way],
            on=[On(TaskCreated, self.way, self.on_created), On(StepDone, self.way, self.on_step_done),
                On(ReflectionDone, self.way, self.on_reflected), On(CancelRequested, self.way, on_cancelled),
                On(TaskStalled, self.way, on_stalled)],
            does=[Does("prepare", self.way, self.prepare, on_prepared)],
            timers=[Timer("deadline", self.way, on_deadline), Timer("horizon", self.way, on_horizon)],
        )  # fmt: skip

    def on_created(self, unit: Unit[Way], event: Received[TaskCreated]) -> None:
        if unit.state.phase == "marked":
            unit.take_context(event)
            end(unit, "cancelled")
            return
        if unit.state.phase != "new":
            unit.ignore("seen before")
            return
        self.hiccup(f"planner {event.id}")
        unit.state.phase, unit.state.goal = "planning", event.data.goal
        unit.set_timer("deadline", unit.now + HOUR)
        unit.publish(TaskStatus(task_id=unit.task_id, state="planning", attempt=1))
        unit.start("prepare", {"goal": event.data.goal}, timeout=timedelta(seconds=20))

    async def prepare(self, call: Call) -> Any:
        """A read: it may run again as often as it likes."""
        if self.world.chance.happens(self.hiccups):
            raise DependencyUnavailable("memory is away")
        return call.args["goal"].split()

    def on_step_done(self, unit: Unit[Way], event: Received[StepDone]) -> None:
        if unit.state.phase in {"new", "marked", "ended"}:
            unit.ignore("nothing is known of it, or it has ended")
            return
        self.hiccup(f"planner {event.id}")
        unit.state.phase, unit.state.counted = "running", unit.state.counted + 1
        unit.publish(TaskStatus(task_id=unit.task_id, state="running", attempt=1, steps_done=event.data.run_seq))

    def on_reflected(self, unit: Unit[Way], event: Received[ReflectionDone]) -> None:
        if unit.state.phase in {"new", "marked", "ended"}:
            unit.ignore("nothing is known of it, or it has ended")
            return
        end(unit, "succeeded" if event.data.verdict == "accept" else "failed", unit.state.counted)

    # safety

    def safety(self, settings: ServiceSettings, platform: Platform) -> Service:
        return Service(
            "safety", settings, platform, kinds=[CHECK],
            on=[On(PlanProposed, CHECK, self.on_proposed), On(CancelRequested, CHECK, on_check_cancelled)],
            timers=[Timer("end", CHECK, close)],
        )  # fmt: skip

    def on_proposed(self, unit: Unit[Check], event: Received[PlanProposed]) -> None:
        if unit.state.passed or unit.closed:
            unit.ignore("decided before")
            return
        self.hiccup(f"safety {event.id}")
        unit.state.passed = True
        unit.set_timer("end", unit.now + HOUR)
        unit.publish(PlanReady.model_validate(dict(event.data)))

    # executor

    def executor(self, settings: ServiceSettings, platform: Platform) -> Service:
        client = ToolClient(self.tools)

        async def work(call: Call) -> Any:
            return await self.work(client, call)

        return Service(
            "executor", settings, platform, kinds=[self.run],
            on=[On(PlanReady, self.run, self.on_ready), On(CancelRequested, self.run, on_run_cancelled)],
            does=[Does("work", self.run, work, on_worked)],
            timers=[Timer("end", self.run, close)],
        )  # fmt: skip

    def on_ready(self, unit: Unit[Run], event: Received[PlanReady]) -> None:
        if unit.state.steps or unit.closed:
            unit.ignore("it runs, or has ended")
            return
        self.hiccup(f"executor {event.id}")
        unit.set_timer("end", unit.now + HOUR)
        self.before_run(unit)
        for step in event.data.plan.steps:
            unit.state.steps.append(step.id)
            until = unit.now + timedelta(seconds=8)
            unit.publish(StepStarted(task_id=unit.task_id, plan_version=1, step=step.id, tool=step.tool,
                                     deadline=until))  # fmt: skip
            unit.start("work", {"step": step.id}, effect=step.tool, timeout=timedelta(seconds=8))

    async def work(self, client: ToolClient, call: Call) -> Any:
        """Do one step at the far side, as its effect class demands."""
        if call.effect == "checkable" and call.recovering:
            done = await client.probe(call.effect, call.key, call.epoch, place_of(call))
            if done is not None:
                return done
        await call.before_effect()
        try:
            return await client.act(call.effect, call.key, call.epoch, place_of(call))
        except DependencyUnavailable:
            if call.effect in {"once", "checkable"}:  # nobody may simply ask again
                raise ActivityFailed(error("outcome_unknown", "no reply")) from None
            raise

    # reflector

    def reflector(self, settings: ServiceSettings, platform: Platform) -> Service:
        return Service(
            "reflector", settings, platform, kinds=[CASE],
            on=[On(TaskCreated, CASE, on_case), On(StepDone, CASE, self.on_evidence),
                On(CancelRequested, CASE, on_case_cancelled)],
            timers=[Timer("end", CASE, close)],
        )  # fmt: skip

    def on_evidence(self, unit: Unit[Case], event: Received[StepDone]) -> None:
        if unit.state.judged or unit.closed:
            unit.ignore("judged before")
            return
        self.hiccup(f"reflector {event.id}")
        unit.state.steps += 1
        unit.set_timer("end", unit.now + HOUR)
        if not event.data.terminal:
            return
        unit.state.judged = True
        whole = unit.state.steps == event.data.run_seq
        good = whole and event.data.run_status == "succeeded"
        unit.publish(ReflectionDone(
            task_id=unit.task_id, plan_version=1, verdict="accept" if good else "give_up", checked=False,
            reason="" if whole else f"terminal after {unit.state.steps} of {event.data.run_seq} steps",
            label=Label(value=float(good), source="unchecked", confidence=0.5),
            episode=Episode(attempt=1, plan_hash="sha256:0"),
        ))  # fmt: skip


def end(unit: Unit[Way], outcome: Any, steps: int = 0) -> None:
    unit.state.phase = "ended"
    unit.publish(TaskStatus(task_id=unit.task_id, state="ended", attempt=1, steps_done=steps))
    unit.publish(TaskDone(task_id=unit.task_id, outcome=outcome, attempts=1))
    unit.close()


def on_prepared(unit: Unit[Way], done: Completed) -> None:
    if unit.state.phase != "planning":
        return
    if done.outcome != "done":
        end(unit, "failed")
        return
    steps = [Step(id=f"s{number}", tool=effect) for number, effect in enumerate(done.result)]
    unit.publish(PlanProposed(
        task_id=unit.task_id, plan=Plan(steps=steps), goal=unit.state.goal, limits=Limits(deadline=unit.now + HOUR)
    ))  # fmt: skip


def on_cancelled(unit: Unit[Way], _: Received[CancelRequested]) -> None:
    if unit.state.phase == "ended":
        unit.ignore("it has ended")
    elif unit.state.phase in {"new", "marked"}:
        unit.state.phase = "marked"
        unit.set_timer("horizon", unit.now + timedelta(days=7))
    else:
        end(unit, "cancelled", unit.state.counted)


def on_stalled(unit: Unit[Way], _: Received[TaskStalled]) -> None:
    if unit.state.phase in {"new", "marked", "ended"}:
        unit.ignore("nothing to park")
    else:
        end(unit, "failed", unit.state.counted)


def on_deadline(unit: Unit[Way], _: str) -> None:
    end(unit, "expired", unit.state.counted)


def on_horizon(unit: Unit[Way], _: str) -> None:
    unit.close()


def on_check_cancelled(unit: Unit[Check], _: Received[CancelRequested]) -> None:
    close_once(unit)


def on_case(unit: Unit[Case], event: Received[TaskCreated]) -> None:
    if unit.state.goal or unit.closed:
        unit.ignore("seen before")
        return
    unit.state.goal = event.data.goal
    unit.set_timer("end", unit.now + HOUR)


def on_case_cancelled(unit: Unit[Case], _: Received[CancelRequested]) -> None:
    close_once(unit)


def on_run_cancelled(unit: Unit[Run], _: Received[CancelRequested]) -> None:
    if unit.closed or unit.state.stopping:
        unit.ignore("it has ended, or is about to")
        return
    unit.state.stopping = True
    for name, activity in list(unit.activities.items()):
        if activity.effect in {"read", "keyed"}:
            unit.stop(name)
    if not unit.activities:
        unit.close()


def on_worked(unit: Unit[Run], done: Completed) -> None:
    run = unit.state
    run.settled += 1
    good = done.outcome == "done"
    run.failed = run.failed or not good
    last = run.settled == len(run.steps)
    outcomes: dict[str, Any] = {
        "done": "succeeded",
        "unknown": "outcome_unknown",
        "failed": "failed",
        "cancelled": "cancelled",
    }
    effect = {"step": done.args["step"], "tool": done.args["step"]}
    unit.publish(StepDone(
        task_id=unit.task_id, plan_version=1, **effect, attempt=1, epoch=done.epoch, run_seq=run.settled,
        run_status=("failed" if run.failed else "succeeded") if last else "running",
        outcome=outcomes[done.outcome], error=done.error,
    ))  # fmt: skip
    if last:
        unit.close()


def close(unit: Unit[Any], _: str) -> None:
    unit.close()


def close_once(unit: Unit[Any]) -> None:
    if unit.closed:
        unit.ignore("it has ended")
    else:
        unit.close()


__all__ = ["EFFECTS", "ActivityFailed", "Family", "error"]
