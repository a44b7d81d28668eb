"""Released steps, signed grants and units of a step, for the tests of the executor's step."""

import base64
from datetime import datetime, timedelta
from typing import Any, cast

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raa_executor.adapters.safety_http import HttpKeyRing
from raa_executor.domain.step_state import StepRun
from raa_executor.handlers import STEP, StepHandlers
from raa_runtime.testing import completed, received, unit_for
from raa_runtime.unit import ActivityOutcome, Unit
from raa_schemas.action import ActionDecided, ActionProposed, Decider, Decision
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.plan import Grant, Limits, Step
from raa_schemas.step import Effect, Risk, StepCancel, StepFinished, StepReady, StepStarted
from raa_schemas.tool import ToolSpec
from tests.unit.executor.plans import NOW

SAFETY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LIMITS = Limits(deadline=NOW + timedelta(hours=1))
DEFINITION = Step(id="mean", tool="probe", args={"x": {"ref": "other", "path": "/v"}, "mode": "exact", "n": [1, 2.5]})
ARGS = {"x": 7, "mode": "exact", "n": [1, 2.5]}


def ring(*key_ids: str) -> HttpKeyRing:
    """A key ring that knows safety's key under these names."""
    known = HttpKeyRing(cast("aiohttp.ClientSession", None), "http://safety")
    public = base64.b64encode(SAFETY.public_key().public_bytes_raw()).decode()
    known.learn(dict.fromkeys(key_ids, public))
    return known


def signed(grant: Grant, *, deployment: str = "", tenant: str = "default", task: str = "t1", version: int = 1) -> Grant:
    content = canonical_bytes(grant.signed_content(deployment, tenant, task, version))
    return grant.model_copy(update={"signature": base64.b64encode(SAFETY.sign(content)).decode()})


def grant(covers: str = "template", expires_at: datetime = NOW + timedelta(minutes=10), **changes: Any) -> Grant:
    """A valid grant for DEFINITION with ARGS, but for `changes`, which are signed too."""
    args_hash = digest(DEFINITION.args) if covers == "template" else digest(ARGS)
    fields = {
        "step": "mean",
        "tool": "probe",
        "args_hash": args_hash,
        "covers": covers,
        "policy_version": "p",
        "expires_at": expires_at,
        "key_id": "k1",
        "signature": "",
    }
    return signed(Grant.model_validate(fields | changes))


def step_ready(own: Grant | None = None, *, retries: int = 0, **changes: Any) -> StepReady:
    fields = {
        "task_id": "t1",
        "plan_version": 1,
        "step": "mean",
        "definition": DEFINITION,
        "args": ARGS,
        "args_hash": digest(ARGS),
        "grant": own,
        "limits": LIMITS,
        "retries": retries,
    }
    return StepReady.model_validate(fields | changes)


def spec(effect: Effect = "read", risk: Risk = "read") -> ToolSpec:
    return ToolSpec(name="probe", arguments={}, effect=effect, risk=risk, timeout_seconds=30)


class Desk:
    """One step aggregate and everything that happens to it, stored and loaded again in between."""

    def __init__(self, effect: Effect = "read", risk: Risk = "read", keys: HttpKeyRing | None = None) -> None:
        self.now = NOW
        self.keys = keys or ring("k1")
        self.handlers = StepHandlers({"probe": spec(effect, risk)}, self.keys)
        self.unit: Unit[StepRun] = unit_for(STEP, "default/t1/v1/mean", now=self.now)
        self.events: list[Any] = []

    def _next(self) -> Unit[StepRun]:
        aggregate = self.unit.aggregate
        aggregate.version += 1 if self.unit.ignored is None else 0
        aggregate.state = StepRun.model_validate_json(aggregate.state.model_dump_json())
        self.unit = Unit(STEP, aggregate, self.now, "executor", "", "test:1:0")
        return self.unit

    def _keep(self) -> None:
        self.events += self.unit.published

    def ready(self, event: StepReady) -> None:
        self.handlers.on_step_ready(self._next(), received(event))
        self._keep()

    def cancel(self) -> None:
        event = StepCancel(task_id="t1", plan_version=1, step="mean", reason="enough")
        self.handlers.on_step_cancel(self._next(), received(event))
        self._keep()

    def decide(
        self,
        decision: Decision,
        own: Grant | None = None,
        args_hash: str = digest(ARGS),
        by: Decider | None = None,
    ) -> None:
        event = ActionDecided(
            task_id="t1",
            plan_version=1,
            step="mean",
            args_hash=args_hash,
            decision=decision,
            by=by,
            grant=own,
            reason="because",
        )
        self.handlers.on_action_decided(self._next(), received(event))
        self._keep()

    def tool_ends(
        self, result: Any = None, outcome: ActivityOutcome = "done", problem: ErrorInfo | None = None
    ) -> None:
        done = completed(self.unit, "tool", result, outcome=outcome, problem=problem)
        self.handlers.on_tool_ended(self._next(), done)
        self._keep()

    def tool_succeeds(self, output: Any = 1) -> None:
        self.tool_ends(
            {
                "status": "succeeded",
                "output": output,
                "output_ref": None,
                "output_digest": digest(output),
                "changed": [],
                "duration_ms": 5,
            }
        )

    def tool_fails(self, code: str = "tool_error") -> None:
        self.tool_ends(outcome="failed", problem=error(code))

    def keys_arrive(self, *key_ids: str) -> None:
        if key_ids:
            public = base64.b64encode(SAFETY.public_key().public_bytes_raw()).decode()
            self.keys.learn(dict.fromkeys(key_ids, public))
        done = completed(self.unit, "keys")
        self.handlers.on_keys_learned(self._next(), done)
        self._keep()

    def timer(self, name: str, after: timedelta = timedelta(seconds=1)) -> None:
        self.now += after
        self.unit.aggregate.timers.pop(name)
        self.handlers.on_step_timer(self._next(), name)
        self._keep()

    @property
    def phase(self) -> str:
        return self.unit.state.phase

    @property
    def running(self) -> list[str]:
        return sorted(self.unit.activities)

    @property
    def asked(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, ActionProposed)]

    @property
    def starts(self) -> int:
        return len([event for event in self.events if isinstance(event, StepStarted)])

    @property
    def finished(self) -> list[tuple[str, str | None]]:
        found = [event for event in self.events if isinstance(event, StepFinished)]
        return [(event.outcome, event.error.code if event.error else None) for event in found]
