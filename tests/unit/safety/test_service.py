"""Safety as a whole, on an embedded bus and store of its own, with an executor's tool list over HTTP."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from raa_runtime.errors import Misconfigured
from raa_runtime.keys import public_key
from raa_runtime.service import Service
from raa_runtime.testing import collect, message_of, running
from raa_safety.app import build
from raa_safety.settings import SafetySettings
from raa_schemas.action import ActionDecided
from raa_schemas.approval import ApprovalRequested, OpenApprovals
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.plan import Grant, Limits, Plan, PlanProposed, PlanReady, PlanRejected, Step
from raa_schemas.tool import ToolList
from tests.unit.safety.desk import HOUR, TOOLS, Person, action

Story = Callable[[Service], Awaitable[None]]


class Executor:
    """Serves GET /v1/tools."""

    def __init__(self) -> None:
        tools = list(TOOLS.values())
        self.tools: ToolList | None = ToolList(tools=tools, digest=digest([tool.model_dump() for tool in tools]))

    async def _answer(self, _request: web.Request) -> web.Response:
        if self.tools is None:
            return web.Response(status=503)
        return web.Response(body=self.tools.model_dump_json(), content_type="application/json")

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/v1/tools", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def ready(service: Service) -> None:
    async with asyncio.timeout(10):
        while await service.missing():  # noqa: ASYNC110  # readiness is asked for, as an orchestrator would
            await asyncio.sleep(0.01)


def with_safety(folder: Path, *stories: Story, **settings: Any) -> None:
    """Tell each story to a safety of its own, one after the other, on one data folder."""

    async def told() -> None:
        async with Executor().serving() as url:
            for story in stories:
                async with running(build, SafetySettings, folder, executor_url=url, **settings) as service:
                    await ready(service)
                    await story(service)

    asyncio.run(told())


async def get(service: Service, path: str, tenant: str | None = None) -> Any:
    headers = {"x-raa-tenant": tenant} if tenant else {}
    async with service.platform.http.get(service.url + path, headers=headers) as answer:
        return await answer.json() if answer.status == 200 else answer.status


async def turn(service: Service, **body: Any) -> int:
    async with service.platform.http.post(f"{service.url}/v1/killswitch", json=body) as answer:
        return answer.status


def plan(*steps: Step, task: str = "t1") -> PlanProposed:
    deadline = datetime.now(UTC) + 10 * HOUR
    return PlanProposed(task_id=task, plan=Plan(steps=list(steps)), goal="g", limits=Limits(deadline=deadline))


async def verify(service: Service, grant: Grant, tenant: str = "default") -> None:
    keys = {key["key_id"]: key["public_key"] for key in (await get(service, "/v1/keys"))["keys"]}
    content = canonical_bytes(grant.signed_content("", tenant, "t1", 1))
    public_key(keys[grant.key_id]).verify(base64.b64decode(grant.signature), content)


def test_a_proposed_plan_becomes_ready_under_grants_that_the_published_key_verifies(data_folder: Path):
    async def story(service: Service) -> None:
        bus = service.platform.bus
        await bus.publish([message_of(plan(Step(id="a", tool="look")))])
        ((_, ready_plan),) = await collect(bus, PlanReady, 1)
        await verify(service, ready_plan.grants["a"])
        await bus.publish([message_of(plan(Step(id="a", tool="lok"), task="t2"))])
        ((_, rejected),) = await collect(bus, PlanRejected, 1)
        assert rejected.findings[0].hint == "did you mean 'look'?"

    with_safety(data_folder, story)


def test_an_operators_key_file_written_while_it_runs_is_enough_to_approve(data_folder: Path):
    async def story(service: Service) -> None:
        bus, person = service.platform.bus, Person()
        await bus.publish([message_of(plan(Step(id="s0", tool="mail", args={"to": "x@example.org"})))])
        await collect(bus, PlanReady, 1)
        await bus.publish([message_of(action().data)])
        ((_, asked),) = await collect(bus, ApprovalRequested, 1)
        waiting = OpenApprovals.model_validate(await get(service, "/v1/approvals", "default")).approvals
        assert [(one.task_id, one.step, one.args) for one in waiting] == [("t1", "s0", {"to": "x@example.org"})]
        assert (await get(service, "/v1/approvals", "other")) == {"approvals": []}
        file = data_folder / "keys" / "operator.pub"
        file.write_text(json.dumps({"key_id": person.key_id, "public_key": person.public_key}))
        await bus.publish(
            [
                message_of(Person().answer(asked, "approve"), event_id="forged"),
                message_of(person.answer(asked, "approve"), event_id="sound"),
            ]
        )
        ((_, decided),) = await collect(bus, ActionDecided, 1)
        assert decided.decision == "allowed"
        await verify(service, decided.grant)
        assert (await get(service, "/v1/approvals", "default")) == {"approvals": []}
        async with service.platform.http.get(f"{service.url}/metrics") as answer:
            text = await answer.text()
        assert "raa_safety_answers_refused_total 1.0" in text
        assert 'raa_safety_actions_total{decision="allowed"} 1.0' in text

    with_safety(data_folder, story)


def test_the_kill_switch_survives_a_restart_and_stops_one_tenant_or_all(data_folder: Path):
    async def states(service: Service) -> list[bool]:
        answers = [
            await get(service, "/v1/killswitch", "acme"),
            await get(service, "/v1/killswitch?tenant=acme"),
            await get(service, "/v1/killswitch", "other"),
            await get(service, "/v1/killswitch"),
        ]
        return [answer["on"] for answer in answers]

    async def first(service: Service) -> None:
        assert await states(service) == [False] * 4
        assert await turn(service, tenant="acme", on=True, why="too many mails", by="ops") == 200
        assert await turn(service, tenant="Not a tenant", on=True) == 422
        assert (await get(service, "/v1/killswitch", "acme"))["why"] == "too many mails"

    async def second(service: Service) -> None:
        assert await states(service) == [True, True, False, False]
        assert await turn(service, tenant=None, on=True, why="all") == 200
        assert await states(service) == [True] * 4
        assert await turn(service, on=False) == 200
        assert await states(service) == [True, True, False, False]

    with_safety(data_folder, first, second)


def test_without_tools_it_is_not_ready_and_a_plan_waits_until_it_is(data_folder: Path):
    async def told() -> None:
        executor = Executor()
        tools, executor.tools = executor.tools, None
        async with executor.serving() as url, running(build, SafetySettings, data_folder, executor_url=url) as service:
            await service.platform.bus.publish([message_of(plan(Step(id="a", tool="look")))])
            assert "executor" in await service.missing()
            executor.tools = tools
            await ready(service)
            assert len(await collect(service.platform.bus, PlanReady, 1)) == 1

    asyncio.run(told())


def test_grants_signed_before_a_key_was_rotated_still_verify_until_it_is_revoked(data_folder: Path):
    grants: list[Grant] = []

    async def before(service: Service) -> None:
        await service.platform.bus.publish([message_of(plan(Step(id="a", tool="look")))])
        ((_, ready_plan),) = await collect(service.platform.bus, PlanReady, 1)
        grants.append(ready_plan.grants["a"])

    async def after(service: Service) -> None:
        keys = (await get(service, "/v1/keys"))["keys"]
        assert len(keys) == 2
        assert keys[0]["key_id"] != grants[0].key_id
        await verify(service, grants[0])

    async def revoked(service: Service) -> None:
        assert grants[0].key_id not in {key["key_id"] for key in (await get(service, "/v1/keys"))["keys"]}

    with_safety(data_folder, before)
    with_safety(data_folder, after, grant_key="grants-2")
    with_safety(data_folder, revoked, grant_key="grants-2", revoked_grant_keys={grants[0].key_id})


@pytest.mark.parametrize("settings", [{"policy": "no-such-file.json"}, {"approver_keys": ["without-a-key"]}])
def test_wrong_settings_stop_the_start_and_name_themselves(data_folder: Path, settings: dict[str, Any]):
    with pytest.raises(Misconfigured, match="RAA_"):
        with_safety(data_folder, ready, **settings)
