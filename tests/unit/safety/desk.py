"""A desk with real signatures and two tools beside the shipped risks, and the events that reach it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.keys import key_id, public_text
from raa_runtime.testing import NOON, received, unit_for
from raa_runtime.unit import Received, Unit
from raa_safety.adapters.ed25519 import Ed25519Signer, verify_ed25519
from raa_safety.domain.policy import PolicyBook, read_policies
from raa_safety.domain.task import TASK, SafetyTask
from raa_safety.handlers import Desk, on_plan_proposed
from raa_schemas.action import ActionProposed
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.plan import Limits, Plan, PlanProposed, Step
from raa_schemas.tool import ToolSpec

ANYTHING: dict[str, Any] = {"type": "object"}
MAIL: dict[str, Any] = {
    "type": "object",
    "properties": {"to": {"type": "string"}},
    "required": ["to"],
    "additionalProperties": False,
}
TOOLS = {
    "look": ToolSpec(name="look", arguments=ANYTHING, effect="read", risk="read"),
    "note": ToolSpec(name="note", arguments=ANYTHING, effect="keyed", risk="workspace"),
    "mail": ToolSpec(name="mail", description="Send a mail.", arguments=MAIL, effect="once", risk="external"),
}
HOUR = timedelta(hours=1)


@dataclass
class FixedCatalog:
    known: Mapping[str, ToolSpec] | None = field(default_factory=lambda: TOOLS)

    def tools(self) -> Mapping[str, ToolSpec]:
        if self.known is None:
            raise DependencyUnavailable("no tools yet")
        return self.known


class Person:
    """Somebody with a key."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.key_id = key_id(self.key.public_key())
        self.public_key = public_text(self.key.public_key())

    def answer(
        self, asked: ApprovalRequested, verdict: str, *, tenant: str = "default", **changed: Any
    ) -> ApprovalDecided:
        said = {
            "task_id": asked.task_id,
            "plan_version": asked.plan_version,
            "step": asked.step,
            "approval_id": asked.approval_id,
            "args_hash": asked.args_hash,
            "verdict": verdict,
            "decided_by": self.key_id,
            "signature": "",
        }
        answer = ApprovalDecided.model_validate(said | changed)
        content = canonical_bytes(answer.signed_content("", tenant))
        signature = base64.b64encode(self.key.sign(content)).decode()
        return answer.model_copy(update={"signature": signature})


@dataclass
class People:
    persons: tuple[Person, ...] = ()

    def known(self) -> Mapping[str, str]:
        return {person.key_id: person.public_key for person in self.persons}


SIGNER = Ed25519Signer(Ed25519PrivateKey.generate())


def desk(*persons: Person, catalog: FixedCatalog | None = None, policies: PolicyBook | None = None) -> Desk:
    return Desk(
        catalog=catalog or FixedCatalog(),
        policies=policies or read_policies(),
        signer=SIGNER,
        approvers=People(persons),
        verified=verify_ed25519,
        grant_lifetime=HOUR,
        approval_lifetime=24 * HOUR,
        linger=HOUR,
    )


def task(state: SafetyTask | None = None, at: timedelta = timedelta(0), tenant: str = "default") -> Unit[SafetyTask]:
    return unit_for(TASK, f"{tenant}/t1", state, now=NOON + at)


def proposed(*steps: Step, version: int = 1, **limits: Any) -> Received[PlanProposed]:
    bounds = Limits.model_validate({"deadline": NOON + 10 * HOUR} | limits)
    plan = Plan(version=version, steps=list(steps) or [Step(id="a", tool="look")])
    return received(PlanProposed(task_id="t1", plan=plan, goal="try it", limits=bounds))


def running(*tools: str, at: timedelta = timedelta(0)) -> SafetyTask:
    """Give the state after a verified plan whose steps s0, s1… use these tools."""
    unit = task()
    args: dict[str, dict[str, Any]] = {"mail": {"to": "x@example.org"}}
    on_plan_proposed(
        unit,
        proposed(*[Step(id=f"s{n}", tool=tool, args=args.get(tool, {})) for n, tool in enumerate(tools)]),
        desk=desk(),
    )
    return unit.state


def action(step: str = "s0", tool: str = "mail", args: Any = None, **changed: Any) -> Received[ActionProposed]:
    bound = {"to": "x@example.org"} if args is None else args
    said = {
        "task_id": "t1",
        "plan_version": 1,
        "step": step,
        "tool": tool,
        "args": bound,
        "args_hash": digest(bound),
        "effect": "once",
        "risk": "external",
        "reason": "external",
    }
    return received(ActionProposed.model_validate(said | changed))
