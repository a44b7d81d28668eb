"""The HTTP adapters against a real server on loopback: what they send, and what they make of each answer."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from raa_planner.activities import Planning
from raa_planner.adapters.http_memory import HttpMemory
from raa_planner.adapters.http_router import HttpRouter
from raa_planner.adapters.http_tools import HttpToolCatalog
from raa_planner.metrics import PlannerMetrics
from raa_planner.ports import Question
from raa_runtime.activities import ActivityFailed
from raa_runtime.clock import SystemClock
from raa_runtime.errors import DependencyUnavailable, RateLimited
from raa_runtime.telemetry import Metrics
from raa_schemas.recall import RecallRequest
from tests.unit.planner.outside import LOG, Scripted, Tools, call_of, serving

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


def question(seconds: float = 5, **more: Any) -> Question:
    return Question(
        messages=[{"role": "user", "content": "hi"}],
        key="k1",
        tenant="acme",
        task_id="t1",
        deadline=SystemClock().now() + timedelta(seconds=seconds),
        **more,
    )


async def asked_of(reply: Any, path: str = CHAT, **more: Any) -> Any:
    async with serving("POST", path, reply) as (http, url):
        return await HttpRouter(http, url, "default", SystemClock()).complete(question(**more))


async def test_a_question_carries_key_tenant_budget_and_deadline():
    seen: dict[str, Any] = {}

    async def reply(request: web.Request) -> web.Response:
        seen.update(headers=dict(request.headers), body=await request.json())
        return web.json_response(
            {
                "choices": [{"message": {"content": "{}"}}],
                "model": "m",
                "usage": {"prompt_tokens": 1},
                "raa": {"model": "real", "cost_microusd": 12},
            }
        )

    answer = await asked_of(reply, budget_microusd=99)
    assert (answer.text, answer.model, answer.cost_microusd) == ("{}", "real", 12)
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["idempotency-key"] == "k1"
    assert (headers["x-raa-tenant"], headers["x-raa-task"], headers["x-raa-purpose"]) == ("acme", "t1", "plan")
    assert headers["x-raa-budget-microusd"] == "99"
    assert headers["x-raa-deadline"].endswith("+00:00")
    assert seen["body"]["response_format"] == {"type": "json_object"}
    assert (seen["body"]["model"], seen["body"]["temperature"]) == ("default", 0)


async def test_an_answer_without_text_is_an_empty_one():
    async def reply(_: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": None}}]})

    assert (await asked_of(reply)).text == ""


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (402, "budget_exhausted", ActivityFailed),
        (400, "bad_arguments", ActivityFailed),
        (429, "rate_limited", RateLimited),
        (503, "model_unavailable", DependencyUnavailable),
    ],
)
async def test_a_refusal_keeps_the_routers_code_and_patience(status: int, code: str, kind: type[Exception]):
    async def reply(_: web.Request) -> web.Response:
        problem = {"error": {"code": code, "message": "no", "retryable": False, "hint": None}}
        return web.json_response(problem, status=status, headers={"retry-after": "7"})

    with pytest.raises(kind) as refused:
        await asked_of(reply)
    if isinstance(refused.value, ActivityFailed):
        assert refused.value.info.code == code
    else:
        assert getattr(refused.value, "retry_after", None) == 7


async def test_a_key_taken_by_another_prompt_goes_on_with_the_prompts_digest():
    keys: list[str] = []

    async def reply(request: web.Request) -> web.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            return web.json_response({"error": {"code": "key_conflict", "message": "another request"}}, status=409)
        return web.json_response({"choices": [{"message": {"content": "{}"}}]})

    assert (await asked_of(reply)).text == "{}"
    assert keys[0] == "k1"
    assert keys[1].startswith("k1/")


async def test_something_else_on_the_port_is_called_so():
    async def reply(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    with pytest.raises(DependencyUnavailable, match="no router"):
        await asked_of(reply)


async def test_a_router_that_hangs_is_left_at_the_deadline():
    async def reply(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    with pytest.raises(DependencyUnavailable, match="router at http"):
        await asked_of(reply, seconds=0.2)


async def test_a_service_that_is_away_is_named_with_its_address():
    async def reply(_: web.Request) -> web.Response:
        return web.Response()

    async with serving("GET", "/healthz", reply) as (http, url):
        pass
    async with serving("GET", "/healthz", reply) as (http, _):
        with pytest.raises(DependencyUnavailable, match=url):
            await HttpMemory(http, url).recall("acme", RecallRequest(task="t1", goal="g"))
        with pytest.raises(DependencyUnavailable, match=url):
            await HttpToolCatalog(http, url, LOG).tools()
        with pytest.raises(DependencyUnavailable, match=url):
            await HttpRouter(http, url, "m", SystemClock()).ping()


async def test_recall_asks_for_the_tenant_and_reads_the_answer():
    seen: dict[str, Any] = {}

    async def reply(request: web.Request) -> web.Response:
        seen.update(tenant=request.headers["x-raa-tenant"], body=await request.json())
        return web.json_response({"lessons": [], "stale": True, "digest": "sha256:d"})

    async with serving("POST", "/v1/recall", reply) as (http, url):
        answer = await HttpMemory(http, url).recall("acme", RecallRequest(task="t1", goal="g", after=["r1"]))
    assert answer.stale
    assert (seen["tenant"], seen["body"]["after"]) == ("acme", ["r1"])


@pytest.mark.parametrize(("status", "text"), [(500, "{}"), (200, "nonsense"), (422, "{}")])
async def test_whatever_is_wrong_with_memory_the_planner_can_go_on(status: int, text: str):
    async def reply(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async with serving("POST", "/v1/recall", reply) as (http, url):
        with pytest.raises(DependencyUnavailable):
            await HttpMemory(http, url).recall("acme", RecallRequest(task="t1", goal="g"))


async def test_a_memory_that_hangs_costs_no_more_than_its_timeout():
    async def reply(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with serving("POST", "/v1/recall", reply) as (http, url):
        with pytest.raises(DependencyUnavailable):
            await HttpMemory(http, url, timeout_seconds=0.1).recall("acme", RecallRequest(task="t1", goal="g"))


async def test_the_list_of_tools_is_kept_while_the_executor_is_away():
    async def reply(_: web.Request) -> web.Response:
        return web.json_response((await Tools().tools()).model_dump(mode="json"))

    async with serving("GET", "/v1/tools", reply) as (http, url):
        catalog = HttpToolCatalog(http, url, LOG)
        await catalog.tools()
    assert [tool.name for tool in (await catalog.tools()).tools] == ["calculate"]


async def test_a_plan_cites_what_it_was_made_from():
    text = '{"steps": [{"id": "a", "tool": "calculate", "args": {}}], "result": {"ref": "a"}}'
    model = Scripted(text)
    planning = Planning(model, Tools(), PlannerMetrics(Metrics()))
    said = await planning(call_of({"brief": {"goal": "1 + 1"}, "budget": 5}, "plan"))
    assert said["plan"]["steps"][0]["tool"] == "calculate"
    cited = said["citations"]
    assert cited["prompt"].startswith("sha256:")
    assert cited["prompt_version"].startswith("plan.v1@sha256:")
    assert (cited["model"], cited["tools"]) == ("scripted", "sha256:tools")
    assert said["cost_microusd"] == 7
    assert (model.asked[0].key, model.asked[0].budget_microusd) == ("the-key", 5)
