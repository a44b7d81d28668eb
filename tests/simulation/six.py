"""The real six services in a simulated world: their handlers, activities and stores; HTTP becomes `remote`."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import raa_executor.api
import raa_executor.app
import raa_memory.api
import raa_memory.app
import raa_planner.api
import raa_planner.app
import raa_reflector.app
import raa_router.api
import raa_router.app
import raa_safety.api
import raa_safety.app
from raa_executor.ports import Signature
from raa_executor.settings import ExecutorSettings
from raa_executor.tools.context import CallContext, Happened
from raa_executor.tools.errors import ToolError
from raa_executor.tools.workspace import Workspace
from raa_memory.settings import MemorySettings
from raa_planner.ports import ModelAnswer, Question
from raa_planner.settings import PlannerSettings
from raa_reflector.settings import ReflectorSettings
from raa_router import activities as router_activities
from raa_router.api import BadRequestError, Context
from raa_router.domain.request import ChatRequest
from raa_router.settings import RouterSettings
from raa_runtime.activities import ActivityFailed
from raa_runtime.bus.port import Record
from raa_runtime.errors import DependencyUnavailable, TransientError
from raa_runtime.keys import key_id, public_text
from raa_runtime.platform import Platform
from raa_runtime.scope import TenantScope
from raa_runtime.service import Service
from raa_runtime.simulated.clock import virtual_now
from raa_runtime.simulated.world import Program, World, replaced
from raa_safety.settings import SafetySettings
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.errors import ErrorInfo
from raa_schemas.plan import Plan, Step
from raa_schemas.recall import RecallAnswer, RecallRequest
from raa_schemas.task import TaskCreated
from raa_schemas.tool import ToolList, ToolSpec
from tests.simulation.messages import message
from tests.simulation.remote import remote
from tests.simulation.tools import ToolClient, ToolServer

ARGUMENTS: Final = {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"],
                    "additionalProperties": False}  # fmt: skip
SPECS: Final = {
    spec.name: spec
    for spec in (
        *(ToolSpec(name=f"far.{effect}", arguments=ARGUMENTS, effect=effect, risk="workspace", timeout_seconds=8)
          for effect in ("read", "keyed", "checkable", "once")),
        ToolSpec(name="far.mail", arguments=ARGUMENTS, effect="once", risk="external", timeout_seconds=8),
    )
}  # fmt: skip
LIST: Final = ToolList(tools=list(SPECS.values()), digest=digest(sorted(SPECS)))


class Catalog:
    """The tools there are, as safety and planner ask for them."""

    def tools(self) -> Mapping[str, ToolSpec]:
        return SPECS

    async def keep_fresh(self) -> None:
        return

    async def ping(self) -> None:
        return


class PlannersCatalog:
    async def tools(self) -> ToolList:
        return LIST


class FarTools:
    """The tools of one executor process: all of them act at the far side."""

    def __init__(self, server: ToolServer) -> None:
        self._client = ToolClient(server)

    def specs(self) -> Mapping[str, ToolSpec]:
        return SPECS

    def reads_files(self, name: str) -> bool:
        return False

    async def call(
        self, name: str, args: Mapping[str, Any], workspace: Workspace, context: CallContext, timeout_seconds: float
    ) -> Any:
        effect = SPECS[name].effect
        try:
            return await self._client.act(effect, context.idempotency_key, context.epoch, _place(context), digest(args))
        except DependencyUnavailable as unanswered:
            code = "tool_timeout" if effect in {"once", "checkable"} else "tool_unavailable"
            raise ToolError(code, str(unanswered)) from None

    async def probe(
        self, name: str, args: Mapping[str, Any], workspace: Workspace, context: CallContext
    ) -> Happened | None:
        try:
            done = await self._client.probe(
                SPECS[name].effect, context.idempotency_key, context.epoch, _place(context), digest(args)
            )
        except DependencyUnavailable as unanswered:
            raise ToolError("tool_timeout", str(unanswered)) from None
        return None if done is None else Happened(done)


def _place(context: CallContext) -> tuple[str, str, str]:
    return context.tenant, context.task, context.step


class Ring:
    """Safety's public key, unknown until it is fetched."""

    def __init__(self, world: World, key: Ed25519PrivateKey) -> None:
        self._world, self._key = world, key.public_key()
        self._known = False

    def check(self, key: str, content: bytes, signature: str) -> Signature:
        if not self._known or key != key_id(self._key):
            return "unknown_key"
        try:
            self._key.verify(base64.b64decode(signature), content)
        except (InvalidSignature, ValueError):
            return "bad"
        return "good"

    async def refresh(self) -> None:
        async def serve(_: Program) -> bool:
            return True

        self._known = await remote(self._world, "safety", serve)


class Switch:
    """The kill switch: off, unless safety cannot be asked."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def closed(self, tenant: str) -> str | None:
        async def serve(_: Program) -> None:
            return None

        try:
            return await remote(self._world, "safety", serve)
        except DependencyUnavailable as away:
            return f"the kill switch cannot be read: {away}"


@dataclass
class Person:
    """Answers what is asked, truthfully, after a while, with a signature."""

    six: "Six"
    key: Ed25519PrivateKey = field(default_factory=lambda: key_of("person"))

    @property
    def approver(self) -> str:
        public = self.key.public_key()
        return f"{key_id(public)}={public_text(public)}"

    def saw(self, record: Record) -> None:
        if record.topic == "approval.requested":
            asked = ApprovalRequested.model_validate_json(record.value or b"")
            world = self.six.world
            world.broker.later(world.chance.between(0.2, 6.0), lambda: self._answer(asked))

    def _answer(self, asked: ApprovalRequested) -> None:
        happened = any(
            call.task == asked.task_id and call.step.endswith(asked.step) and call.args_hash == asked.args_hash
            for call in self.six.tools.ledger
        )
        verdict: Any = "approve" if asked.question == "may_run" else "happened" if happened else "not_happened"
        said = ApprovalDecided(
            task_id=asked.task_id, plan_version=asked.plan_version, step=asked.step, approval_id=asked.approval_id,
            args_hash=asked.args_hash, verdict=verdict, decided_by=key_id(self.key.public_key()), signature="",
        )  # fmt: skip
        signature = base64.b64encode(self.key.sign(canonical_bytes(said.signed_content("", "default")))).decode()
        signed = said.model_copy(update={"signature": signature})
        self.six.world.broker.append([message(signed, f"approval-{asked.approval_id}")])


class Six:
    """All six services of one world."""

    services = ("planner", "safety", "executor", "reflector", "memory", "router")

    def __init__(self, world: World, tools: ToolServer) -> None:
        self.world, self.tools = world, tools
        self.hiccups = 0.0
        self.books: dict[int, Any] = {}
        self.desks: dict[int, Any] = {}
        self.person = Person(self)
        world.broker.observers.append(self.person.saw)

    def program(self, service: str, number: int = 1, skew: float = 0.0) -> Program:
        programs: dict[str, tuple[Any, Any, dict[str, Any]]] = {
            "planner": (self.planner, PlannerSettings, {}),
            "safety": (self.safety, SafetySettings, {"approver_keys": (self.person.approver,)}),
            "executor": (self.executor, ExecutorSettings, {}),
            "reflector": (raa_reflector.app.build, ReflectorSettings, {"evidence_seconds": 20.0}),
            "memory": (self.memory, MemorySettings, {}),
            "router": (self.router, RouterSettings, {}),
        }  # fmt: skip
        build, settings, overrides = programs[service]
        return self.world.add(Program(f"{service}{number}", service, build, settings, dict(overrides), skew))

    def task(self, task: str) -> TaskCreated:
        """Make up a task: a goal for the model, or a ready plan whose steps follow each other or do not."""
        chance, names = self.world.chance, list(SPECS)
        if chance.happens(0.3):
            return TaskCreated(task_id=task, goal=f"use {chance.one_of(names)} with note={task}")
        count = 1 + chance.up_to(3)
        steps = [
            Step(id=f"s{number}", tool=chance.one_of(names), args={"note": f"{task} {number}"},
                 after=[f"s{number - 1}"] if number and chance.happens(0.5) else [])
            for number in range(count)
        ]  # fmt: skip
        result = {"ref": f"s{count - 1}", "path": "/key"}
        return TaskCreated(task_id=task, goal="as planned", plan=Plan(steps=steps, result=result))

    # compositions

    def planner(self, settings: PlannerSettings, platform: Platform) -> Service:
        return raa_planner.app.build(settings, platform, memory=self, model=self, catalog=PlannersCatalog())

    def safety(self, settings: SafetySettings, platform: Platform) -> Service:
        return raa_safety.app.build(settings, platform, catalog=Catalog())  # type: ignore[arg-type]

    def executor(self, settings: ExecutorSettings, platform: Platform) -> Service:
        ring = Ring(self.world, key_of("grants"))
        return raa_executor.app.build(settings, platform, tools=FarTools(self.tools), keys=ring, key_source=ring,
                                      switch=Switch(self.world))  # fmt: skip

    def memory(self, settings: MemorySettings, platform: Platform) -> Service:
        kept: list[Any] = []
        with replaced(raa_memory.api, "routes", lambda book, _: kept.append(book)):
            service = raa_memory.app.build(settings, platform)
        self.books[id(service)] = kept[0]
        return service

    def router(self, settings: RouterSettings, platform: Platform) -> Service:
        kept: list[Any] = []
        with replaced(raa_router.api, "routes", lambda desk, *_: kept.append(desk)):
            service = raa_router.app.build(settings, platform)
        self.desks[id(service)] = kept[0]
        return service

    # what the planner asks over HTTP

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        async def serve(program: Program) -> RecallAnswer:
            answer: RecallAnswer = await self.books[id(program.running)].recall(TenantScope(tenant), request)  # type: ignore[arg-type]
            return answer

        return await remote(self.world, "memory", serve, 1.0)

    async def complete(self, question: Question) -> ModelAnswer:
        async def serve(program: Program) -> Any:
            seconds = (question.deadline - virtual_now()).total_seconds()
            context = Context(
                tenant=question.tenant, task_id=question.task_id, for_task=True, purpose="plan", key=question.key,
                budget_microusd=question.budget_microusd, seconds=seconds,
            )  # fmt: skip
            request = ChatRequest.model_validate({"messages": question.messages, "temperature": 0,
                                                  "response_format": {"type": "json_object"}})  # fmt: skip
            try:
                return await self.desks[id(program.running)].serve(request, context)
            except TransientError as problem:
                raise DependencyUnavailable(str(problem)) from None
            except BadRequestError as refused:
                return ErrorInfo(code=refused.code, message=str(refused))

        said = await remote(self.world, "router", serve, 30.0)
        if isinstance(said, ErrorInfo):
            if said.retryable:
                raise DependencyUnavailable(said.message)
            raise ActivityFailed(said)
        return ModelAnswer(said["choices"][0]["message"]["content"], "offline")


def key_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


@contextmanager
def without_http(world: World) -> Iterator[None]:
    """Build no routes, and let the router's pauses come from the world's chance."""
    with ExitStack() as stack:
        for module in (raa_planner.api, raa_safety.api, raa_executor.api):
            stack.enter_context(replaced(module, "routes", lambda *_: None))
        stack.enter_context(replaced(router_activities, "random", world.chance))
        yield
