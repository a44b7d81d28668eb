"""Any tasks decide again as they did, twice over; and so do those of released versions."""

import asyncio
import contextlib
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raa_cli.replay.blobs import OverlaidBlobs
from raa_cli.replay.change import Change
from raa_cli.replay.compare import compare
from raa_cli.replay.evidence import evidence_of
from raa_cli.replay.playing import play
from raa_cli.replay.recording import read_tasks, recorded
from raa_cli.stack import Stack
from raa_client.client import Client
from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.context import CallContext
from raa_executor.tools.registry import call
from raa_executor.tools.workspace import Workspace
from raa_runtime.blobs import LocalBlobs
from raa_runtime.scope import TenantScope
from raa_schemas.ids import TenantId
from raa_schemas.plan import Plan, Step
from raa_schemas.step import StepReady
from raa_schemas.task import Constraints, TaskCreated
from tests.integration.recorded_tasks import DATA
from tests.integration.test_readme import endpoint  # noqa: F401  # a fixture
from tests.replay.log_file import RECORDED, load

names = st.sampled_from(["a", "b", "c", "d"])
values = st.integers(-9, 9)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A graph of small calculations, some of which fail."""
    steps: list[Step] = []
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        earlier = [step.id for step in steps]
        other: Any = {"ref": draw(st.sampled_from(earlier)), "path": "/value"} if earlier else draw(values)
        expression = draw(st.sampled_from(["x + y", "x * y", "x / y", "x - y"]))
        args = {"expression": expression, "values": {"x": draw(values), "y": draw(st.sampled_from([other, 0, 2]))}}
        steps.append(Step(id=name, tool="calculate", args=args))
    return Plan(steps=steps, result={"ref": steps[-1].id, "path": "/value"})


tasks = st.builds(
    lambda plan, check, attempts: TaskCreated(
        goal="calculate", plan=plan, success_check=check, constraints=Constraints(max_attempts=attempts)
    ),
    plans(),
    st.sampled_from([None, "result >= 0", "result < 0"]),
    st.integers(1, 2),
)
sums = st.builds(
    lambda x, y, check: TaskCreated(goal=f'use calculate with expression="{x} / {y}"', success_check=check),
    values, values, st.sampled_from([None, "result.value >= 0"]),
)  # fmt: skip


@settings(max_examples=3, deadline=None)
@given(submitted=st.lists(st.one_of(tasks, sums), min_size=3, max_size=8))
def test_a_replay_and_the_replay_of_a_replay_decide_as_it_is_recorded(submitted: list[TaskCreated]):
    asyncio.run(_replayed_twice(submitted))


async def _replayed_twice(submitted: list[TaskCreated]) -> None:
    with contextlib.ExitStack() as held:
        folder = Path(mkdtemp(prefix="raa-"))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        blobs = LocalBlobs(folder / "o" / "blobs", "")
        async with Stack(folder / "o", environment={}, drain_seconds=0) as stack:
            await stack.ready()
            client = Client(stack.bus, stack.blobs)
            named = [await client.submit(task) for task in submitted]
            for task in named:
                await client.result(task, 30)
            recordings = await read_tasks(stack.bus, "", "default", named)
        cases = [await evidence_of(recordings[task], blobs, {}) for task in named]
        first = await play(cases, Change(), folder / "1", blobs)
        again = [one.replayed for one in first]
        own = LocalBlobs(folder / "1" / "0" / "blobs", again[0].deployment if again[0] else "")
        overlaid = OverlaidBlobs(own, blobs)
        cases = [await evidence_of(one, overlaid, {}) for one in again if one is not None]
        second = await play(cases, Change(), folder / "2", overlaid)
        for task, once, twice in zip(named, first, second, strict=True):
            assert once.replayed is not None
            assert compare(recordings[task], "", once).differences == []
            assert compare(once.replayed, "", twice).differences == []
            assert (once.diverged, twice.diverged) == (None, None)


@pytest.mark.parametrize("log", sorted(RECORDED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_log_of_a_released_version_is_decided_the_same_today(log: Path, data_folder: Path):
    asyncio.run(_log_replayed(log, data_folder))


async def _log_replayed(log: Path, folder: Path) -> None:
    records, blobs = list(load(log)), LocalBlobs(folder / "blobs", "")
    played = 0
    for tenant in sorted({value.decode() for record in records for name, value in record.headers
                          if name == "ce_tenant" and value}):  # fmt: skip
        recordings = recorded(records, "", tenant)
        known = {
            lesson.id: lesson
            for one in recordings.values()
            for event in one.events
            for lesson in getattr(event.event, "lessons", [])
        }
        for one in recordings.values():
            await _bring_blobs(TenantScope(TenantId(tenant)), one.task_id, one.all(TaskCreated), blobs)
            await _write_again(TenantScope(TenantId(tenant)), one.task_id, one.all(StepReady), blobs, folder / "w")
        cases = [await evidence_of(one, blobs, known) for one in recordings.values()]
        for result in await play(cases, Change(), folder / tenant, blobs):
            found = compare(recordings[result.task_id], "", result)
            assert (found.diverged, found.differences) == (None, [])
            played += 1
    assert played >= 5


async def _bring_blobs(scope: TenantScope, task: str, created: list[TaskCreated], blobs: LocalBlobs) -> None:
    for item in created[0].inputs:
        assert await blobs.put_file(scope, task, DATA / item.name) == (item.sha256, item.size)


async def _write_again(scope: TenantScope, task: str, ready: list[StepReady], blobs: LocalBlobs, folder: Path) -> None:
    """Make the files a task wrote: a log holds no blobs."""
    for step in ready:
        if step.definition.tool == "file.write":
            space = Workspace(folder / task / step.step, {})
            context = CallContext("key", scope.tenant, task, step.step, 1, step.limits.deadline)
            await call(built_in_tools(), "file.write", step.args or {}, space, context, timeout_seconds=5)
            for path in space.changed().values():
                await blobs.put_file(scope, task, path)
