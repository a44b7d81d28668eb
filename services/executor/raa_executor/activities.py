"""The work outside the lanes: bind large arguments, learn safety's keys, call a tool.

Whatever fails for a passing reason before the call is `not_started`: the intent is closed, nothing happened, and the
step tries again later. What fails after the call of a tool that must not be repeated is `unknown`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from raa_executor.domain.grants import fits
from raa_executor.domain.sizes import INLINE_BYTES, bounded, size, state_bound
from raa_executor.domain.step import UNREPEATABLE
from raa_executor.metrics import ToolMetrics
from raa_executor.ports import Files, KeySource, KillSwitch, Tools, Values
from raa_executor.tools.context import CallContext, Happened
from raa_executor.tools.errors import ToolError
from raa_executor.tools.workspace import Workspace
from raa_runtime.activities import ActivityFailed, Call
from raa_runtime.errors import ClaimGone, LeaseLost, TransientError
from raa_runtime.masking import Secrets
from raa_schemas.artifact import Artifact
from raa_schemas.canonical import digest
from raa_schemas.errors import ErrorInfo, error
from raa_schemas.plan import UnboundReferenceError, bind

# the answer has to be stored before the runtime ends the activity
_FOR_THE_ANSWER: Final = 5.0
_AT_MOST_A_FIFTH: Final = 0.2
_SLOT_WAIT: Final = 20.0
_UNKNOWN: Final = {"status": "unknown"}


async def bind_arguments(call: Call, *, values: Values) -> dict[str, Any]:
    """Read the outputs that lie in blobs and bind; returns `{value | ref, hash}`."""
    outputs: dict[str, Any] = {}
    try:
        for step, where in call.args["outputs"].items():
            outputs[step] = (
                where["value"] if "value" in where else await values.get(call.scope, call.task_id, where["ref"])
            )
        bound = bind(call.args["template"], outputs)
    except UnboundReferenceError as unbound:
        raise ActivityFailed(error("unbound_reference", str(unbound), step_id=call.args["step"])) from None
    except ClaimGone as gone:
        raise ActivityFailed(error("claim_gone", str(gone), step_id=call.args["step"])) from None
    if size(bound) <= INLINE_BYTES:
        return {"value": bound, "hash": digest(bound)}
    return {"ref": await values.put(call.scope, call.task_id, bound), "hash": digest(bound)}


async def learn_keys(_call: Call, *, source: KeySource) -> None:
    """Fetch safety's public keys again."""
    await source.refresh()


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Calls tools; `slots` bounds how many run at once in this process, `secrets` are in no error they raise."""

    tools: Tools
    switch: KillSwitch
    files: Files
    values: Values
    slots: asyncio.Semaphore
    metrics: ToolMetrics
    secrets: Secrets = field(default_factory=Secrets)

    async def __call__(self, call: Call) -> dict[str, Any]:
        """Run one intent; raises ActivityFailed with the tool's error."""
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(_time_for_the_work(call)):
                    await held.enter_async_context(self._slot())
                    args, workspace = await self._prepare(call, held)
                    closed = await self.switch.closed(call.tenant)
            except ClaimGone as gone:
                if _suspect(call):
                    return _UNKNOWN
                raise ActivityFailed(error("claim_gone", str(gone), step_id=call.args["step"])) from None
            except (TransientError, TimeoutError) as problem:
                return _not_started(call, str(problem) or "no tool slot or no files in time")
            if closed is not None:
                return _not_started(call, closed)
            return await self._run(call, args, workspace)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        async with asyncio.timeout(_SLOT_WAIT):
            await self.slots.acquire()
        try:
            yield
        finally:
            self.slots.release()

    async def _prepare(self, call: Call, held: AsyncExitStack) -> tuple[dict[str, Any], Workspace]:
        args = await self._arguments(call)
        reads = self.tools.reads_files(call.args["tool"])
        manifest = [Artifact.model_validate(artifact) for artifact in call.args["manifest"]] if reads else []
        return args, await held.enter_async_context(self.files.workspace(call.scope, call.task_id, manifest))

    async def _arguments(self, call: Call) -> dict[str, Any]:
        if "args" in call.args:
            own: dict[str, Any] = call.args["args"] or {}
            return own
        args = await self.values.get(call.scope, call.task_id, call.args["args_ref"])
        as_granted = isinstance(args, dict) and digest(args) == call.args["args_hash"]
        if not as_granted or not fits(call.args["template"], args):
            message = "the arguments in the blob are not those the step was granted"
            raise ActivityFailed(error("grant_denied", message, step_id=call.args["step"]))
        bound: dict[str, Any] = args
        return bound

    async def _run(self, call: Call, args: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
        name, begun = call.args["tool"], call.clock.monotonic()
        with self.metrics.running():
            try:
                output = await self._output(call, name, args, workspace)
            except LeaseLost as lost:
                return _not_started(call, str(lost))
            except _ProbeFailed as blind:
                return _not_started(call, self.secrets.hide(str(blind))) if blind.passing else _UNKNOWN
            except ToolError as problem:
                self.metrics.ended(name, problem.code, call.clock.monotonic() - begun)
                if problem.code == "tool_timeout" and call.effect in UNREPEATABLE:
                    return _UNKNOWN
                raise ActivityFailed(self._told(call, problem)) from problem
        seconds = call.clock.monotonic() - begun
        self.metrics.ended(name, "succeeded", seconds)
        try:
            return await self._store(call, workspace, output, int(seconds * 1000))
        except TransientError:
            if call.effect in UNREPEATABLE:
                return _UNKNOWN
            raise

    def _told(self, call: Call, problem: ToolError) -> ErrorInfo:
        """Say what the tool raised without the secrets in it; hidden before it is cut, or half of one could stay."""
        info = problem.info(call.args["step"])
        hidden = {"message": self.secrets.hide(info.message), "details": self.secrets.hide_known(info.details)}
        return bounded(info.model_copy(update=hidden), call.args["max_steps"])

    async def _output(self, call: Call, name: str, args: dict[str, Any], workspace: Workspace) -> Any:
        context = CallContext(
            idempotency_key=call.key,
            tenant=call.tenant,
            task=call.task_id,
            step=call.args["step"],
            epoch=call.epoch,
            deadline=call.deadline,
        )
        if _suspect(call):
            happened = await self._look(name, args, workspace, context)
            if happened is not None:
                return happened.output
        await call.before_effect()
        return await self.tools.call(name, args, workspace, context, _time_for_the_work(call))

    async def _look(
        self, name: str, args: dict[str, Any], workspace: Workspace, context: CallContext
    ) -> Happened | None:
        try:
            return await self.tools.probe(name, args, workspace, context)
        except ToolError as problem:
            raise _ProbeFailed(problem) from problem

    async def _store(self, call: Call, workspace: Workspace, output: Any, duration_ms: int) -> dict[str, Any]:
        changed = await self.files.keep(call.scope, call.task_id, workspace)
        length = size(output)
        by_reference = length > state_bound(call.args["max_steps"])
        return {
            "status": "succeeded",
            "output": output if length <= INLINE_BYTES else None,
            "output_ref": await self.values.put(call.scope, call.task_id, output) if by_reference else None,
            "output_digest": digest(output),
            "changed": [artifact.model_dump(mode="json") for artifact in changed],
            "duration_ms": duration_ms,
        }


class _ProbeFailed(Exception):
    """Whether the action happened could not be looked up."""

    def __init__(self, problem: ToolError) -> None:
        super().__init__(f"its probe failed: {problem}")
        self.passing = problem.info().retryable


def _suspect(call: Call) -> bool:
    """Say whether an earlier call of this action may have happened, so that nobody may claim it did not."""
    return call.effect == "checkable" and (call.recovering or bool(call.args.get("suspect")))


def _not_started(call: Call, why: str) -> dict[str, Any]:
    return {"status": "not_started", "why": why, "suspect": _suspect(call)}


def _time_for_the_work(call: Call) -> float:
    """Leave the end of the activity to storing its answer; in seconds."""
    left = call.remaining_seconds()
    return max(left - min(_FOR_THE_ANSWER, left * _AT_MOST_A_FIFTH), 0.01)
