"""The whole service on the embedded bus and store."""

import asyncio
import json
from pathlib import Path

import pytest

from raa_reflector.app import build
from raa_reflector.settings import ReflectorSettings
from raa_runtime.bus.port import Message
from raa_runtime.scope import TenantScope
from raa_runtime.testing import NOON, collect, message_of, running
from raa_schemas.ids import TenantId
from raa_schemas.plan import Limits, Plan, PlanReady
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepDone, StepRecord
from raa_schemas.task import TaskCreated
from tests.unit.reflector.stories import query, rows, source

STEP = query("a.csv", "x")


def events(output_ref: str | None = None) -> list[Message]:
    plan = Plan(steps=[STEP], result={"ref": "q", "path": "/rows/0/mean"})
    record = StepRecord(
        definition=STEP,
        outcome="succeeded",
        attempt=1,
        output_ref=output_ref,
        output=rows(3) if output_ref is None else None,
    )
    return [
        message_of(event)
        for event in (
            StepDone(
                task_id="t1",
                plan_version=1,
                step="q",
                tool=STEP.tool,
                run_seq=1,
                run_status="succeeded",
                outcome="succeeded",
                result=3,
                manifest=[record],
            ),
            PlanReady(
                task_id="t1",
                plan=plan,
                goal="mean of x",
                success_check="result == outputs.q.rows[0].mean",
                sources=[source("a.csv")],
                limits=Limits(deadline=NOON.replace(year=2100)),
            ),
            TaskCreated(task_id="t1", goal="mean of x", success_check="result == outputs.q.rows[0].mean"),
        )
    ]


@pytest.mark.parametrize("by_reference", [False, True])
def test_a_run_is_judged_from_the_bus_and_from_blobs(tmp_path: Path, by_reference: bool) -> None:
    async def run() -> ReflectionDone:
        async with running(build, ReflectorSettings, tmp_path) as service:
            platform = service.platform
            reference = None
            if by_reference:
                stored = json.dumps(rows(3)).encode()
                reference = "blob:sha256/" + await platform.blobs.put(TenantScope(TenantId("default")), "t1", stored)
            await platform.bus.publish(events(reference))
            [(_, reflected)] = await collect(platform.bus, ReflectionDone, 1)
            exposed = service.metrics.exposition().decode()
            assert 'raa_reflector_reflections_total{label="checker",verdict="accept"} 1.0' in exposed
            assert isinstance(reflected, ReflectionDone)
            return reflected

    told = asyncio.run(run())
    assert (told.task_id, told.verdict, told.checked, told.partial_evidence) == ("t1", "accept", True, False)
    assert told.episode.family == "table.aggregate"


def test_an_output_whose_blob_is_gone_leaves_partial_evidence(tmp_path: Path) -> None:
    async def run() -> ReflectionDone:
        async with running(build, ReflectorSettings, tmp_path) as service:
            await service.platform.bus.publish(events("blob:sha256/" + "0" * 64))
            [(_, reflected)] = await collect(service.platform.bus, ReflectionDone, 1)
            assert isinstance(reflected, ReflectionDone)
            return reflected

    told = asyncio.run(run())
    assert (told.verdict, told.partial_evidence, told.lessons) == ("replan", True, [])
    assert "there is no outputs.q" in told.reason
