"""The planner's work outside its lanes: take inputs in and recall (`prepare`), ask the model (`plan`)."""

import mimetypes
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from raa_planner.domain.admission import BLOB_URI
from raa_planner.domain.answers import Cannot, Planned, read_answer
from raa_planner.domain.instructions import CURRENT, Instructions
from raa_planner.domain.planning import ModelSaid, Prepared, ToPrepare
from raa_planner.domain.prompt import Brief, Message, system_text, usable_tools, user_text
from raa_planner.metrics import PlannerMetrics
from raa_planner.ports import HandledReflections, InputFiles, Memory, Model, ModelAnswer, Question, ToolCatalog
from raa_runtime.activities import ActivityFailed, Call
from raa_runtime.blobs import BlobStore
from raa_runtime.errors import ClaimGone, TransientError
from raa_runtime.tabular import HEAD_BYTES, schema_hash, sniff
from raa_runtime.telemetry import Logger
from raa_schemas.artifact import Artifact, Input, Source
from raa_schemas.canonical import canonical_bytes, digest, digest_bytes
from raa_schemas.errors import error
from raa_schemas.plan import Citations
from raa_schemas.recall import RecallAnswer, RecallRequest, RecallSource
from raa_schemas.tool import ToolList

MAX_STABLE_KEPT: Final = 32
MAX_SHOWN_CHARACTERS: Final = 200_000
"""Column names and head lines of all inputs of a task together: they travel in state, events and prompt."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """The activity `prepare`: of effect `read`, because storing content by its hash again changes nothing."""

    blobs: BlobStore
    files: InputFiles
    memory: Memory
    reflections: HandledReflections
    catalog: ToolCatalog
    metrics: PlannerMetrics
    log: Logger

    async def __call__(self, call: Call) -> Any:
        """Take the inputs in one by one, then ask memory about them."""
        wanted = ToPrepare.model_validate(call.args)
        share = MAX_SHOWN_CHARACTERS // max(1, len(wanted.inputs))
        prepared = Prepared()
        for item in wanted.inputs:
            artifact = await self._take_in(call, item)
            head = await self.blobs.head(call.scope, call.task_id, artifact.sha256, HEAD_BYTES)
            prepared.manifest.append(artifact)
            prepared.sources.append(describe(artifact, head, share))
        if wanted.recall:
            await self._recall(call, wanted, prepared)
        return prepared.model_dump(mode="json", by_alias=True)

    async def _take_in(self, call: Call, item: Input) -> Artifact:
        if item.data is not None:
            content = item.data.encode()
            sha256, size = await self.blobs.put(call.scope, call.task_id, content), len(content)
        elif claim := BLOB_URI.fullmatch(item.uri or ""):
            sha256, size = claim[1], await self._size_of_claim(call, item, claim[1])
        else:
            path = self.files.locate(item.name, item.uri or "")
            sha256, size = await self.blobs.put_file(call.scope, call.task_id, path)
        if item.sha256 not in {None, sha256}:
            raise ActivityFailed(
                error(
                    "input_invalid", f"input {item.name!r} has the sha256 {sha256}, not {item.sha256}", input=item.name
                )
            )
        media_type = item.media_type or mimetypes.guess_type(item.name)[0]
        return Artifact(name=item.name, sha256=sha256, size=size, media_type=media_type)

    async def _size_of_claim(self, call: Call, item: Input, sha256: str) -> int:
        try:
            head = await self.blobs.head(call.scope, call.task_id, sha256, HEAD_BYTES)
            if len(head) < HEAD_BYTES:
                return len(head)
            with tempfile.TemporaryDirectory(prefix="raa-planner-") as folder:
                copy = Path(folder) / "claim"
                await self.blobs.fetch_to(call.scope, call.task_id, sha256, copy)
                return copy.stat().st_size
        except ClaimGone:
            raise ActivityFailed(
                error(
                    "claim_gone",
                    f"input {item.name!r}: no blob sha256/{sha256} is stored for this task",
                    input=item.name,
                )
            ) from None

    async def _recall(self, call: Call, wanted: ToPrepare, prepared: Prepared) -> None:
        request = RecallRequest(
            task=call.task_id,
            goal=wanted.goal,
            tools=await self._tool_names(wanted.allowed_tools),
            sources=[
                RecallSource(name=one.name, sha256=one.sha256, schema_hash=one.schema_hash) for one in prepared.sources
            ],
            after=await self.reflections.newest(call.tenant),
        )
        try:
            answer = await self.memory.recall(call.tenant, request)
        except TransientError as problem:
            self.metrics.recalls.labels("away").inc()
            self.log.warning("memory_degraded", tenant=call.tenant, task=call.task_id, reason=str(problem))
            prepared.memory_degraded = True
            return
        prepared.recall_request = question_digest(request)
        if answer.lessons:
            content = canonical_bytes(answer.model_dump(mode="json", by_alias=True, include={"lessons"}))
            prepared.recall_ref = f"blob:sha256/{await self.blobs.put(call.scope, call.task_id, content)}"
        self._take_answer(prepared, answer)

    def _take_answer(self, prepared: Prepared, answer: RecallAnswer) -> None:
        self.metrics.recalls.labels("stale" if answer.stale else "fresh").inc()
        prepared.lessons, prepared.recall_digest = answer.lessons, answer.digest
        prepared.memory_degraded = answer.stale

    async def _tool_names(self, allowed: list[str] | None) -> list[str]:
        try:
            known = await self.catalog.tools()
        except TransientError:
            return []  # recall works without; planning itself will wait for the list
        return [tool.name for tool in usable_tools(known.tools, allowed)]


def question_digest(request: RecallRequest) -> str:
    """Hash what decides the answer to a recall; who asks, and how fresh the answer must be, does not."""
    return digest(request.model_dump(mode="json", by_alias=True, exclude={"task", "after"}))


def describe(artifact: Artifact, head: bytes, share: int) -> Source:
    """Say what an input's first bytes tell, within `share` characters."""
    dialect = sniff(head)
    lines = _within(list(dialect.preview_lines), share // 2)
    return Source(
        name=artifact.name,
        sha256=artifact.sha256,
        size=artifact.size,
        media_type=artifact.media_type,
        schema_hash=schema_hash(dialect.columns, dialect.delimiter) if dialect.is_table else None,
        format=dialect.format,
        columns=_within(list(dialect.columns), share // 2),
        delimiter=dialect.delimiter or None,
        head=lines,
    )


def _within(texts: list[str], characters: int) -> list[str]:
    kept: list[str] = []
    for text in texts:
        characters -= len(text)
        if characters < 0:
            break
        kept.append(text)
    return kept


@dataclass(frozen=True, slots=True)
class Planning:
    """The activity `plan`: of effect `keyed`, because the router replays its answer to the same key."""

    model: Model
    catalog: ToolCatalog
    metrics: PlannerMetrics
    told: Instructions = CURRENT
    _stable: dict[tuple[str, ...], str] = field(default_factory=dict)

    async def __call__(self, call: Call) -> Any:
        """Compose the prompt, ask, and read the answer."""
        brief = Brief.model_validate(call.args["brief"])
        known = await self.catalog.tools()
        messages = [
            {"role": "system", "content": self._system(known, brief.allowed_tools)},
            {"role": "user", "content": user_text(brief)},
        ]
        answer = await self.model.complete(
            Question(
                messages=messages,
                key=call.key,
                tenant=call.tenant,
                task_id=call.task_id,
                deadline=call.deadline,
                budget_microusd=call.args["budget"],
            )
        )
        said = understood(answer)
        said.citations = cite(messages, answer, known, self.told)
        self.metrics.count_answer(said)
        return said.model_dump(mode="json", by_alias=True)

    def _system(self, known: ToolList, allowed: list[str] | None) -> str:
        """Write the stable part once per list of tools, not once per task."""
        key = (known.digest, *(["*"] if allowed is None else sorted(allowed)))
        if key not in self._stable:
            if len(self._stable) >= MAX_STABLE_KEPT:
                self._stable.clear()
            self._stable[key] = system_text(usable_tools(known.tools, allowed), self.told)
        return self._stable[key]


def understood(answer: ModelAnswer) -> ModelSaid:
    """Read what the model said."""
    read = read_answer(answer.text)
    if isinstance(read, Planned):
        return ModelSaid(plan=read.plan, cost_microusd=answer.cost_microusd)
    if isinstance(read, Cannot):
        return ModelSaid(cannot=read.reason, cost_microusd=answer.cost_microusd)
    return ModelSaid(garbage=read.reason, cost_microusd=answer.cost_microusd)


def cite(messages: list[Message], answer: ModelAnswer, known: ToolList, told: Instructions) -> Citations:
    """Cite what a plan was made from, so that it can be replayed."""
    return Citations(
        prompt=digest(messages),
        prompt_version=told.cited(),
        model=answer.model,
        model_answer=digest_bytes(answer.text.encode(errors="replace")),
        tools=known.digest,
    )
