"""The planner as a whole service on the embedded bus and store; the other services are played by the test."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from raa_planner.app import build
from raa_planner.domain.task import TASK
from raa_planner.settings import PlannerSettings
from raa_runtime.bus.port import Message
from raa_runtime.scope import scope_of
from raa_runtime.service import Service
from raa_runtime.testing import collect, message_of, running
from raa_schemas.cancel import CancelRequested
from raa_schemas.event import Event
from raa_schemas.plan import PlanProposed, PlanReady
from raa_schemas.reflection import Episode, Label, ReflectionDone
from raa_schemas.step import StepDone
from raa_schemas.task import Constraints, TaskCreated, TaskDone, TaskStatus
from tests.unit.planner.outside import Knowing, Scripted, Tools

pytestmark = pytest.mark.anyio
PLAN = json.dumps(
    {"steps": [{"id": "sum", "tool": "calculate", "args": {"expression": "1 + 1"}}], "result": {"ref": "sum"}}
)


@asynccontextmanager
async def planner(
    folder: Path, *answers: str, memory: Knowing | None = None, **overrides: Any
) -> AsyncIterator[Service]:
    made = partial(build, memory=memory or Knowing(), model=Scripted(*(answers or (PLAN,))), catalog=Tools())
    async with running(made, PlannerSettings, folder, **overrides) as service:
        yield service


async def publish(service: Service, *events: Event) -> None:
    sent = [
        message_of(event, event_id=f"{event.event_type()} {event.task_id} {number}")
        for number, event in enumerate(events)
    ]
    assert await service.platform.bus.publish(sent) == [None] * len(sent)


def play_others(proposed: PlanProposed) -> list[Event]:
    """Answer a proposal as safety, executor and reflector would when all goes well."""
    task, plan = proposed.task_id, proposed.plan
    step = plan.steps[0]
    ready = PlanReady.model_validate(proposed.model_dump())
    done = StepDone(
        task_id=task,
        plan_version=plan.version,
        step=step.id,
        tool=step.tool,
        run_seq=1,
        run_status="succeeded",
        outcome="succeeded",
        result=2,
        steps_done=1,
        steps_total=1,
    )
    reflection = ReflectionDone(
        task_id=task,
        plan_version=plan.version,
        verdict="accept",
        checked=False,
        label=Label(value=1, source="unchecked", confidence=0.5),
        episode=Episode(attempt=1, plan_hash="sha256:1"),
    )
    return [ready, done, reflection]


async def first(service: Service, event: type[Event], count: int = 1) -> list[Any]:
    return [found for _, found in await collect(service.platform.bus, event, count)]


async def test_a_task_runs_through_the_service(tmp_path: Path):
    memory = Knowing()
    async with planner(tmp_path, memory=memory) as service:
        await publish(service, TaskCreated(task_id="t1", goal="what is 1 + 1"))
        (proposed,) = await first(service, PlanProposed)
        await publish(service, *play_others(proposed))
        (done,) = await first(service, TaskDone)
        assert (done.outcome, done.result, done.attempts, done.cost_microusd) == ("succeeded", 2, 1, 7)
        await publish(service, TaskCreated(task_id="t2", goal="what is 1 + 1"))
        await first(service, PlanProposed, 2)
    assert memory.asked[0].after == []
    assert memory.asked[1].after == ["reflection.done t1 2"], "a recall names what the planner has handled"


async def test_a_waiting_task_is_released_when_another_ends(tmp_path: Path):
    async with planner(tmp_path, max_active_tasks=1) as service:
        await publish(service, TaskCreated(task_id="t1", goal="1"), TaskCreated(task_id="t2", goal="2"))
        (proposed,) = await first(service, PlanProposed)
        await publish(service, *play_others(proposed))
        both = await first(service, PlanProposed, 2)
        assert {one.task_id for one in both} == {"t1", "t2"}


async def test_tasks_that_waited_come_back_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raa_planner.domain.planning.SHORTEST_LOOK", PlannerSettings(ageing_seconds=0.2).ageing)
    async with planner(tmp_path, max_active_tasks=1) as service:
        await publish(service, TaskCreated(task_id="t1", goal="1"), TaskCreated(task_id="t2", goal="2"))
        await first(service, PlanProposed)
        await first(service, TaskStatus, 3)
    async with planner(tmp_path, max_active_tasks=2) as service:
        both = await first(service, PlanProposed, 2)
        assert {one.task_id for one in both} == {"t1", "t2"}


async def test_a_cancel_waits_for_its_task_as_long_as_the_deployment_lets_events_create_one(tmp_path: Path):
    async with planner(tmp_path, horizon_seconds=1234) as service:
        await publish(service, CancelRequested(task_id="t1", reason="never mind"))
        async with asyncio.timeout(10):
            while (mark := await service.store(TASK).find(scope_of("default/t1"), "default/t1")) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert mark.timers["horizon"] == pytest.approx(mark.updated_at + 1234, abs=1)


async def test_a_broken_line_is_answered_and_blocks_nothing(tmp_path: Path):
    async with planner(tmp_path) as service:
        await service.platform.bus.publish([Message("task.created", b"", b'{"goal": ', ())])
        await service.platform.bus.publish([Message("task.created", b"", b'{"goal": "1 + 1"}', ())])
        (done,) = await first(service, TaskDone)
        assert (done.outcome, done.error.code) == ("rejected", "record_invalid")
        (proposed,) = await first(service, PlanProposed)
        assert proposed.task_id.startswith("task-")


async def test_a_file_outside_the_roots_is_rejected_by_the_service(tmp_path: Path):
    async with planner(tmp_path, input_roots=[tmp_path / "inputs"]) as service:
        body = {"goal": "read it", "inputs": [{"name": "p", "uri": "file:/etc/passwd"}]}
        await publish(service, TaskCreated.model_validate(body | {"task_id": "t1"}))
        (done,) = await first(service, TaskDone)
        assert (done.outcome, done.error.code) == ("rejected", "input_outside_roots")


async def test_garbage_twice_ends_the_task(tmp_path: Path):
    async with planner(tmp_path, "no", "still no") as service:
        await publish(service, TaskCreated(task_id="t1", goal="1"))
        (done,) = await first(service, TaskDone)
        assert (done.outcome, done.error.code) == ("failed", "model_garbage")


async def test_the_deadline_is_kept_by_the_runtime(tmp_path: Path):
    async with planner(tmp_path) as service:
        await publish(service, TaskCreated(task_id="t1", goal="1", constraints=Constraints(deadline_seconds=0.4)))
        (done,) = await first(service, TaskDone)
        assert (done.outcome, done.error.code) == ("expired", "deadline_exceeded")


async def _get(url: str, tenant: str = "default") -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.get(url, headers={"x-raa-tenant": tenant}) as response:
        return response.status, await (response.json() if "json" in response.content_type else response.text())


async def test_the_api_answers_the_tasks_own_tenant_only(tmp_path: Path):
    async with planner(tmp_path) as service:
        await publish(service, TaskCreated(task_id="t1", goal="1"))
        await first(service, PlanProposed)
        status, task = await _get(f"{service.url}/v1/tasks/t1")
        assert (status, task["phase"], task["plan_version"]) == (200, "verifying", 1)
        assert (await _get(f"{service.url}/v1/tasks/t1", "acme"))[0] == 404
        assert (await _get(f"{service.url}/v1/tasks/t1", "no/tenant"))[0] == 422


async def test_the_backlog_is_a_metric(tmp_path: Path):
    async with planner(tmp_path, max_active_tasks=1) as service:
        await publish(service, TaskCreated(task_id="t1", goal="1"), TaskCreated(task_id="t2", goal="2"))
        await first(service, TaskStatus, 3)
        _, text = await _get(f"{service.url}/metrics")
        assert "raa_planner_queue_depth_tasks 1.0" in text
        assert "raa_planner_active_tasks 1.0" in text


def test_the_mark_of_reflections_is_indexed():
    kept: Callable[[str], bool] = TASK.indexes.__contains__
    assert kept("reflected_at")
