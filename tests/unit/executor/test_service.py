"""Whole executors on an embedded bus: plans run to their end with real tools, files and blobs."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raa_executor.app import build, shipped_tools
from raa_executor.settings import ExecutorSettings
from raa_runtime.errors import Misconfigured
from raa_runtime.platform import Platform, open_platform
from raa_runtime.scope import TenantScope
from raa_runtime.service import Service
from raa_runtime.testing import collect, message_of
from raa_schemas.action import ActionProposed
from raa_schemas.artifact import Artifact
from raa_schemas.cancel import CancelRequested
from raa_schemas.canonical import digest
from raa_schemas.ids import TenantId
from raa_schemas.plan import Grant, Limits, Plan, PlanReady, Step
from raa_schemas.step import StepDone, StepStarted
from raa_schemas.tool import ToolList
from tests.unit.executor.plans import ref, step
from tests.unit.executor.steps import ring, signed

pytestmark = pytest.mark.anyio
TENANT = TenantScope(TenantId("default"))
OWN_TOOLS = '''
import time
from raa_executor.tools.registry import tool, CallContext, ToolError, Workspace

@tool(name="big", effect="read", risk="read")
def big(size: int) -> dict:
    """Give a long text."""
    return {"text": "x" * size, "size": size}

@tool(name="length", effect="read", risk="read")
def length(text: str) -> int:
    """Count characters."""
    return len(text)

@tool(name="whoami", effect="keyed", risk="workspace")
def whoami(context: CallContext) -> dict:
    """Say what the call knows."""
    return {"key": context.idempotency_key, "task": context.task, "step": context.step, "tenant": context.tenant}

@tool(name="slow", effect="once", risk="workspace", timeout=0.2)
def slow() -> None:
    """Take longer than allowed."""
    time.sleep(0.5)

@tool(name="refuse", effect="read", risk="read")
def refuse() -> None:
    """Fail with many details."""
    raise ToolError("not_numeric", "no", {"shapes": ["9,9"] * 5000})
'''


@dataclass
class Switch:
    """A kill switch without a server."""

    why: str | None = None

    async def closed(self, tenant: str) -> str | None:
        return self.why


@asynccontextmanager
async def platform(folder: Path, **overrides: Any) -> AsyncIterator[tuple[ExecutorSettings, Platform]]:
    own = folder / "own_tools.py"
    own.write_text(OWN_TOOLS)
    settings = ExecutorSettings.from_env({}, data=folder, log_level="error", tools=[own], **overrides)
    async with open_platform(settings) as opened:
        yield settings, opened


@asynccontextmanager
async def started(*services: Service) -> AsyncIterator[None]:
    for service in services:
        await service.start()
    try:
        yield
    finally:
        for service in services:
            await service.drain()


def executor(settings: ExecutorSettings, floor: Platform, switch: Switch | None = None) -> Service:
    return build(settings, floor, keys=ring("k1"), switch=switch or Switch())


def grants(steps: Iterable[Step], task: str) -> dict[str, Grant]:
    later = datetime.now(UTC) + timedelta(minutes=5)
    return {
        one.id: signed(
            Grant(
                step=one.id,
                tool=one.tool,
                args_hash=digest(one.args),
                policy_version="p",
                expires_at=later,
                key_id="k1",
                signature="",
            ),
            task=task,
        )
        for one in steps
    }


def granted(*steps: Step, result: Any = None, task: str = "t1", manifest: list[Artifact] | None = None) -> PlanReady:
    limits = Limits(deadline=datetime.now(UTC) + timedelta(minutes=10))
    return PlanReady(
        task_id=task,
        plan=Plan(steps=list(steps), result=result),
        goal="g",
        limits=limits,
        manifest=manifest or [],
        grants=grants(steps, task),
    )


async def run(floor: Platform, ready: PlanReady) -> list[StepDone]:
    await floor.bus.publish([message_of(ready)])
    return [event for _, event in await collect(floor.bus, StepDone, len(ready.plan.steps))]


async def test_a_plan_of_calculations_and_files_runs_to_its_end(data_folder: Path):
    async with platform(data_folder) as (settings, floor), started(executor(settings, floor)):
        data = b"a,b\n1,2\n"
        manifest = [Artifact(name="in.csv", sha256=await floor.blobs.put(TENANT, "t1", data), size=len(data))]
        done = await run(
            floor,
            granted(
                step("sum", expression="1 + 2"),
                step("read", tool="file.read", file="in.csv"),
                step(
                    "write",
                    tool="file.write",
                    path="report.md",
                    parts=["sum ", ref("sum", "/value"), ref("read", "/text")],
                ),
                step("again", "write", tool="file.read", file="report.md"),
                result=ref("again", "/text"),
                manifest=manifest,
            ),
        )
    assert [event.outcome for event in done] == ["succeeded"] * 4
    assert (done[-1].run_status, done[-1].result) == ("succeeded", "sum 3a,b\n1,2\n")
    assert [item.name for item in done[-1].artifacts] == ["report.md"]
    assert {event.run_seq for event in done} == {1, 2, 3, 4}


async def test_two_executors_with_different_folders_and_one_blob_store_finish_a_run(data_folder: Path):
    async with platform(data_folder, parallel_steps=4) as (settings, floor):
        other = replace(floor, data=data_folder / "other-host")
        steps = [step(f"w{n}", tool="file.write", path=f"{n}.md", parts=[f"part {n}\n"]) for n in range(8)]
        reads = [step(f"r{n}", f"w{n}", tool="file.read", file=f"{n}.md") for n in range(8)]
        parts = [ref(f"r{n}", "/text") for n in range(8)]
        last = step("join", tool="file.write", path="all.md", parts=parts)
        second = settings.model_copy(update={"instance": "second"})
        async with started(executor(settings, floor), executor(second, other)):
            done = await run(floor, granted(*steps, *reads, last))
    assert (done[-1].step, done[-1].run_status) == ("join", "succeeded")
    for folder in (data_folder, data_folder / "other-host"):
        assert list((folder / "executor" / "files").rglob("*")), f"nothing was read in {folder}"
    assert len(done[-1].artifacts) == 9


async def test_large_outputs_arguments_and_results_travel_by_reference(data_folder: Path):
    async with platform(data_folder) as (settings, floor), started(executor(settings, floor)):
        done = await run(
            floor,
            granted(
                step("big", tool="big", size=100_000),
                step("length", tool="length", text=ref("big", "/text")),
                step("later", "length", tool="length", text=ref("big", "/text")),
                result={"lengths": [ref("length"), ref("later")], "text": ref("big", "/text")},
            ),
        )
        big, last = done[0], done[-1]
        assert (big.output, last.run_status, last.result) == (None, "succeeded", None)
        assert last.result_ref is not None
        raw = await floor.blobs.get(TENANT, "t1", last.result_ref.removeprefix("blob:sha256/"))
    assert b'"lengths":[100000,100000]' in raw
    assert max(len(event.to_json()) for event in done) < 20_000


async def test_a_tool_knows_its_task_step_tenant_and_the_key_of_the_action(data_folder: Path):
    async with platform(data_folder) as (settings, floor), started(executor(settings, floor)):
        (done,) = await run(floor, granted(step("me", tool="whoami"), result=ref("me")))
    assert (done.result["task"], done.result["step"], done.result["tenant"]) == ("t1", "me", "default")
    assert len(done.result["key"]) == 40


async def test_with_the_kill_switch_on_nothing_starts_and_with_it_off_the_run_goes_on(data_folder: Path):
    switch = Switch("the kill switch is on")
    async with platform(data_folder) as (settings, floor), started(executor(settings, floor, switch)):
        await floor.bus.publish([message_of(granted(step("sum", expression="1 + 2"), result=ref("sum", "/value")))])
        ((_, begun),) = await collect(floor.bus, StepStarted, 1)
        switch.why = None
        ((_, done),) = await collect(floor.bus, StepDone, 1)
    assert (begun.attempt, done.attempt, done.result) == (1, 1, 3)


async def test_an_action_that_timed_out_and_must_not_be_repeated_waits_for_a_person_until_the_task_is_cancelled(
    data_folder: Path,
):
    async with platform(data_folder) as (settings, floor), started(executor(settings, floor)):
        await floor.bus.publish([message_of(granted(step("slow", tool="slow")))])
        ((_, asked),) = await collect(floor.bus, ActionProposed, 1)
        await floor.bus.publish([message_of(CancelRequested(task_id="t1", reason="enough"))])
        ((_, done),) = await collect(floor.bus, StepDone, 1)
    assert (asked.reason, asked.effect) == ("outcome_unknown", "once")
    assert (done.outcome, done.run_status) == ("outcome_unknown", "cancelled")


async def test_the_typed_error_of_a_tool_arrives_with_step_and_hint_and_bounded_details(data_folder: Path):
    async with platform(data_folder) as (settings, floor), started(executor(settings, floor)):
        (done,) = await run(floor, granted(step("no", tool="refuse")))
    assert done.error is not None
    assert (done.error.code, done.error.step_id, done.error.hint is not None) == ("not_numeric", "no", True)
    assert "left_out" in done.error.details


async def test_a_file_of_the_workspace_that_is_gone_fails_the_step(data_folder: Path):
    async with platform(data_folder) as (settings, floor), started(executor(settings, floor)):
        manifest = [Artifact(name="in.csv", sha256="0" * 64, size=1)]
        (done,) = await run(floor, granted(step("read", tool="file.read", file="in.csv"), manifest=manifest))
    assert done.error is not None
    assert done.error.code == "claim_gone"


async def test_the_tools_are_listed_for_planner_and_safety(data_folder: Path):
    async with platform(data_folder) as (settings, floor):
        service = executor(settings, floor)
        async with started(service), floor.http.get(f"{service.url}/v1/tools") as answer:
            listed = ToolList.model_validate(await answer.json())
    names = [tool.name for tool in listed.tools]
    assert names == sorted(names)
    assert {"table.query", "file.write", "calculate", "big"} <= set(names)


async def test_counts_and_times_of_tools_are_published(data_folder: Path):
    async with platform(data_folder) as (settings, floor):
        service = executor(settings, floor)
        async with started(service):
            await run(floor, granted(step("sum", expression="1 + 2")))
            async with floor.http.get(f"{service.url}/metrics") as answer:
                text = await answer.text()
    assert 'raa_executor_tool_seconds_count{outcome="succeeded",tool="calculate"} 1.0' in text
    assert "raa_executor_steps_running 0.0" in text


def test_a_file_of_tools_that_cannot_be_used_stops_the_start_with_its_name(tmp_path: Path):
    with pytest.raises(Misconfigured, match="nowhere"):
        shipped_tools([tmp_path / "nowhere.py"])
