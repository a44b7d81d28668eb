"""Plans: a DAG of tool calls whose edges are argument references, and the events that carry them."""

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pydantic import Field

from raa_schemas.artifact import Artifact, Source
from raa_schemas.canonical import digest
from raa_schemas.event import Event, Instant, MicroUsd, Part
from raa_schemas.ids import STEP_ID_PATTERN
from raa_schemas.reflection import Hypothesis

MAX_ARGUMENT_DEPTH = 32
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
Origin = Literal["model", "pattern", "client", "replan"]


class Step(Part):
    """One tool call."""

    id: str = Field(pattern=STEP_ID_PATTERN, description="unique within the plan")
    tool: str = Field(min_length=1, max_length=128, description="the tool's name")
    args: dict[str, Any] = Field(
        default_factory=dict, description="literals, {ref, path} references at any depth, {literal} escapes"
    )
    after: list[str] = Field(default_factory=list, description="steps that must end before, besides those referenced")


class Plan(Part):
    """A DAG of steps, and the argument that becomes the task's result."""

    version: int = Field(1, ge=1, description="counts the plans of a task, from 1")
    origin: Origin = Field("client", description="who made it")
    lessons: list[str] = Field(default_factory=list, description="ids of the lessons it applies")
    steps: list[Step] = Field(min_length=1, max_length=200, description="in any order; edges are references and after")
    result: Any = Field(None, description="an argument: a literal or a {ref, path} reference")

    def content_hash(self) -> str:
        """Hash what the plan does; equal for two plans that differ in version, origin or cited lessons only."""
        return digest({"steps": [step.model_dump() for step in self.steps], "result": self.result})


class Reference(NamedTuple):
    """An argument taken from another step's output."""

    step: str
    path: str


class UnboundReferenceError(LookupError):
    """A reference points at nothing in the output of its step."""


def as_reference(value: Any) -> Reference | None:
    """Read a value as a reference: exactly the keys `ref` and `path` (which may be absent), both text."""
    if not isinstance(value, dict) or "ref" not in value or not value.keys() <= {"ref", "path"}:
        return None
    ref, path = value["ref"], value.get("path", "")
    return Reference(ref, path) if isinstance(ref, str) and isinstance(path, str) else None


def references(value: Any) -> Iterator[Reference]:
    """Find all references in an argument, at any depth up to 32; deeper raises ValueError."""
    return _references(value, 0)


def _references(value: Any, depth: int) -> Iterator[Reference]:
    if depth > MAX_ARGUMENT_DEPTH:
        raise ValueError(f"an argument is nested deeper than {MAX_ARGUMENT_DEPTH} levels; pass it as a file")
    if (reference := as_reference(value)) is not None:
        yield reference
    elif isinstance(value, dict) and value.keys() != {"literal"}:
        for item in value.values():
            yield from _references(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item, depth + 1)


def bind(value: Any, outputs: dict[str, Any]) -> Any:
    """Replace each reference by what it points at in `outputs` (step id to output); raises UnboundReferenceError."""
    if (reference := as_reference(value)) is not None:
        if reference.step not in outputs:
            raise UnboundReferenceError(f"step {reference.step!r} has no output")
        return resolve_pointer(outputs[reference.step], reference.path)
    if isinstance(value, dict):
        if value.keys() == {"literal"}:
            return value["literal"]
        return {key: bind(item, outputs) for key, item in value.items()}
    if isinstance(value, list):
        return [bind(item, outputs) for item in value]
    return value


def resolve_pointer(document: Any, pointer: str) -> Any:
    """Follow a JSON pointer (RFC 6901); raises UnboundReferenceError naming the part that is missing."""
    if pointer and not pointer.startswith("/"):
        raise UnboundReferenceError(f"{pointer!r} is no JSON pointer; begin it with a slash: '/{pointer}'")
    current = document
    for raw in pointer.split("/")[1:]:
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(current, dict) and part in current:
            current = current[part]
        elif isinstance(current, list) and _INDEX.fullmatch(part) and int(part) < len(current):
            current = current[int(part)]
        else:
            raise UnboundReferenceError(f"{pointer!r} points at nothing: there is no {part!r}")
    return current


def dependencies(step: Step) -> set[str]:
    """Name the steps that must end before this one: those it references and those in `after`."""
    return {reference.step for reference in references(step.args)} | set(step.after)


class Grant(Part):
    """Safety's signed permission for one step. It says nothing about when: the intent is its use."""

    step: str = Field(description="step id")
    tool: str = Field(description="tool name")
    args_hash: str = Field(description="digest of the argument template (covers: template) or of the bound arguments")
    covers: Literal["template", "bound"] = Field("template", description="what args_hash was taken of")
    policy_version: str = Field(description="digest of the policy that decided")
    expires_at: Instant = Field(description="after this the executor asks again")
    key_id: str = Field(description="which of safety's public keys verifies it")
    signature: str = Field(description="Ed25519 over `signed_content`, base64")

    def signed_content(self, deployment: str, tenant: str, task_id: str, plan_version: int) -> dict[str, Any]:
        """Build the JSON value whose canonical bytes are signed; binds the grant to its place."""
        own = self.model_dump(mode="json", exclude={"signature"})
        return own | {"deployment": deployment, "tenant": tenant, "task": task_id, "plan_version": plan_version}


class Limits(Part):
    """What a run of a plan may use."""

    deadline: Instant = Field(description="the task's deadline")
    allowed_tools: list[str] | None = Field(None, description="tool names; null allows all the deployment offers")
    max_steps: int = Field(20, ge=1, le=200, description="steps per plan")
    budget_microusd: MicroUsd | None = Field(None, description="what is left of the task's budget; null: no limit")
    tries_left: int = Field(12, ge=0, description="the task's falling counter: repairs, replans and step retries")


class Citations(Part):
    """Digests of the non-deterministic inputs of a decision, so that it can be replayed."""

    prompt: str | None = Field(None, description="digest of the prompt")
    prompt_version: str | None = Field(None, description="version of the instructions file")
    model: str | None = Field(None, description="model that answered")
    model_answer: str | None = Field(None, description="digest of the model's answer")
    recall: str | None = Field(None, description="digest of memory's answer")
    recall_request: str | None = Field(None, description="digest of the question to memory, without task and `after`")
    recall_ref: str | None = Field(
        None, description="`blob:sha256/<hex>` of memory's lessons, among the blobs of the task; null: it had none"
    )
    tools: str | None = Field(None, description="digest of the tool schemas shown")


class PlanProposed(Event):
    """The planner asks safety to verify a plan."""

    plan: Plan = Field(description="the plan, with its version and origin")
    attempt: int = Field(1, ge=1, description="which attempt this plan is for")
    goal: str = Field(description="the task's goal")
    success_check: str | None = Field(None, description="the task's check")
    manifest: list[Artifact] = Field(default_factory=list, description="the workspace at the start of the run")
    sources: list[Source] = Field(default_factory=list, description="what is known of the inputs")
    hypotheses: list[Hypothesis] = Field(default_factory=list, description="what earlier attempts suggest")
    lessons_shown: list[str] = Field(default_factory=list, description="ids of the lessons in the prompt")
    limits: Limits = Field(description="what the run may use")
    citations: Citations = Field(default_factory=Citations, description="digests of what the plan was made from")


class PlanReady(PlanProposed):
    """Safety verified the plan; executors may run it under these grants."""

    grants: dict[str, Grant] = Field(
        default_factory=dict, description="by step id; a step without one asks when its arguments are known"
    )


class Finding(Part):
    """One reason why a plan was rejected."""

    code: str = Field(description="for example unknown_tool, cycle, bad_reference, bad_arguments")
    message: str = Field(description="what is wrong")
    step: str | None = Field(None, description="the step, if it is about one")
    field: str | None = Field(None, description="JSON pointer into the step")
    hint: str | None = Field(None, description="how to repair it")


class PlanRejected(Event):
    """Safety will not let this plan run."""

    plan_version: int = Field(ge=1, description="which plan")
    findings: list[Finding] = Field(description="everything that is wrong with it")
