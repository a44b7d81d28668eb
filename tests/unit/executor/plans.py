"""Plans, runs and a run's world, for the tests of the executor's decisions."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from raa_executor.domain.announce import DEADLINE
from raa_executor.domain.moves import Close, Move, Publish, Start, Stop, Wake
from raa_executor.domain.run import bound, cancel, finished, past_deadline, take_up
from raa_executor.domain.run_state import Run
from raa_executor.domain.terms import Terms
from raa_schemas.artifact import Artifact
from raa_schemas.canonical import digest
from raa_schemas.errors import error
from raa_schemas.plan import Limits, Plan, PlanReady, Step, bind
from raa_schemas.step import Outcome, StepCancel, StepDone, StepFinished, StepReady

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
LIMITS = Limits(deadline=NOW + timedelta(hours=1), tries_left=12)


def step(name: str, *after: str, tool: str = "calculate", **args: Any) -> Step:
    return Step(id=name, tool=tool, after=list(after), args=args)


def ref(name: str, path: str = "") -> dict[str, str]:
    return {"ref": name, "path": path}


def plan_ready(
    *steps: Step, result: Any = None, version: int = 1, limits: Limits = LIMITS, manifest: list[Artifact] | None = None
) -> PlanReady:
    plan = Plan(version=version, steps=list(steps), result=result)
    return PlanReady(task_id="t1", plan=plan, goal="g", limits=limits, manifest=manifest or [])


def artifact(name: str, content: str) -> Artifact:
    return Artifact(name=name, sha256=digest(content).removeprefix("sha256:"), size=len(content))


@dataclass
class World:
    """A run and everything it ever asked for."""

    parallel: int = 4
    now: datetime = NOW
    run: Run = field(default_factory=Run)
    moves: list[Move] = field(default_factory=list)
    most_under_way: int = 0
    answered: list[str] = field(default_factory=list)
    known_at: dict[str, set[str]] = field(default_factory=dict)

    @property
    def terms(self) -> Terms:
        return Terms("t1", self.now, self.parallel)

    def _took(self, moves: list[Move] | None) -> list[Move]:
        self.run = Run.model_validate_json(self.run.model_dump_json())
        self.moves += moves or []
        self.most_under_way = max(self.most_under_way, len(self.run.in_phase("running", "binding")))
        for move in moves or []:
            if isinstance(move, Publish) and isinstance(move.event, StepReady):
                self.known_at[move.event.step] = set(self.answered)
        return moves or []

    def succeeded_before(self, released: StepReady) -> set[str]:
        """Name the steps that had been answered with success when this one was released."""
        return self.known_at[released.step]

    def start(self, ready: PlanReady) -> list[Move]:
        return self._took(take_up(self.run, ready, self.terms))

    def finish(
        self, name: str, output: Any = None, outcome: Outcome = "succeeded", version: int = 1, **more: Any
    ) -> list[Move]:
        problem = None if outcome == "succeeded" else error("tool_error", "it broke")
        more.setdefault("error", problem)
        if outcome == "succeeded":
            self.answered.append(name)
        event = StepFinished(
            task_id="t1",
            plan_version=version,
            step=name,
            tool="calculate",
            outcome=outcome,
            output=output,
            output_digest=digest(output),
            effect="read",
            **more,
        )
        return self._took(finished(self.run, event, self.terms))

    def cancel(self, reason: str = "enough") -> list[Move]:
        return self._took(cancel(self.run, reason, self.terms))

    def bind(self, name: str | None, outputs: dict[str, Any]) -> list[Move]:
        start = next(move for move in reversed(self.moves) if isinstance(move, Start) and move.args["step"] == name)
        value = bind(start.args["template"], outputs)
        return self._took(bound(self.run, start.args, {"value": value, "hash": digest(value)}, None, self.terms))

    def bind_fails(self, name: str | None) -> list[Move]:
        start = next(move for move in reversed(self.moves) if isinstance(move, Start) and move.args["step"] == name)
        return self._took(bound(self.run, start.args, None, error("claim_gone"), self.terms))

    def pass_time(self, span: timedelta) -> list[Move]:
        self.now += span
        return self._took(past_deadline(self.run, self.terms))

    def published(self, kind: type[Any]) -> list[Any]:
        return [move.event for move in self.moves if isinstance(move, Publish) and isinstance(move.event, kind)]

    @property
    def ready(self) -> list[StepReady]:
        return self.published(StepReady)

    @property
    def done(self) -> list[StepDone]:
        return self.published(StepDone)

    @property
    def cancelled(self) -> list[str]:
        return [event.step for event in self.published(StepCancel)]

    @property
    def stopped(self) -> list[str]:
        return [move.name for move in self.moves if isinstance(move, Stop)]

    @property
    def closed(self) -> bool:
        return any(isinstance(move, Close) for move in self.moves)

    @property
    def deadline(self) -> datetime | None:
        wakes = [move for move in self.moves if isinstance(move, Wake) and move.timer == DEADLINE]
        return wakes[-1].at if wakes else None


def names(events: list[Any]) -> list[str]:
    return [event.step for event in events]
