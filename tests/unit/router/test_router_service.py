"""The whole router, against an endpoint on loopback that misbehaves as real ones do."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from raa_router.adapters.openai_compatible import _until
from raa_router.app import build
from raa_router.settings import RouterSettings
from raa_runtime.scope import TenantScope
from raa_runtime.service import Service
from raa_runtime.testing import collect, running
from raa_schemas.ids import TenantId
from raa_schemas.usage import UsageRecorded

pytestmark = pytest.mark.anyio
Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
PRICE = {"input_microusd": 1_000_000, "output_microusd": 2_000_000}
OK = {"steps": [{"id": "a"}], "result": 1}


def reply(content: Any = None, usage: Any = ..., **message: Any) -> web.Response:
    told = {"prompt_tokens": 10, "completion_tokens": 5} if usage is ... else usage
    text = json.dumps(OK) if content is None and not message else content
    body = {"choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}]}
    return web.json_response(body | ({"usage": told} if told is not None else {}))


class Endpoint:
    """An endpoint whose answers a test scripts; the last one stays."""

    def __init__(self, *answers: Handler | web.Response) -> None:
        self.answers = list(answers)
        self.seen: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.url = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        self.headers.append(request.headers.copy())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, web.Response):
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        return await answer(request, body)

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "only-one"}]})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Endpoint"]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()


@asynccontextmanager
async def router(folder: Path, *endpoints: Endpoint, **settings: Any) -> AsyncIterator[Service]:
    models = [
        {"name": f"m{number}", "base_url": endpoint.url, "price": PRICE, "api_key": "sk-secret",
         "max_output_tokens": 100,
         "fallbacks": [f"m{number + 1}"] if number < len(endpoints) else []}
        for number, endpoint in enumerate(endpoints, 1)
    ]  # fmt: skip
    async with running(build, RouterSettings, folder, models=settings.pop("models", models), **settings) as service:
        yield service


async def ask(
    service: Service, body: dict[str, Any] | None = None, key: str | None = "k1", **headers: str
) -> tuple[int, Any, Any]:
    asked = {"model": "default", "messages": [{"role": "user", "content": "plan"}], "temperature": 0,
             "response_format": {"type": "json_object"}} | (body or {})  # fmt: skip
    sent = {"x-raa-tenant": "acme", "x-raa-task": "t1", "x-raa-purpose": "plan"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()} | (
        {"idempotency-key": key} if key else {}
    )
    url = f"{service.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as http, http.post(url, json=asked, headers=sent) as response:
        return response.status, await response.json(), response.headers


def content(answer: Any) -> Any:
    return json.loads(answer["choices"][0]["message"]["content"])


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_an_answer_carries_tokens_cost_and_digest_and_its_usage_is_published(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service)
        assert status == 200
        assert content(answer) == OK
        assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        assert answer["raa"].pop("request_digest").startswith("sha256:")
        assert answer["raa"] == {
            "model": "m1", "tier": "medium", "cost_microusd": 20, "fallback": False, "cached": False,
        }  # fmt: skip
        ((record, usage),) = await collect(service.platform.bus, UsageRecorded, 1)
        assert (usage.task_id, usage.purpose, usage.cost_microusd) == ("t1", "plan", 20)
        assert usage.request_digest.startswith("sha256:")
        assert record.key == b"acme/t1"


async def test_the_answer_to_a_task_is_kept_among_its_blobs_and_cited(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        await ask(service)
        ((_, usage),) = await collect(service.platform.bus, UsageRecorded, 1)
        sha256 = (usage.answer_ref or "").removeprefix("blob:sha256/")
        kept = json.loads(await service.platform.blobs.get(TenantScope(TenantId("acme")), "t1", sha256))
        assert (json.loads(kept["content"]), kept["model"], kept["cost_microusd"]) == (OK, "m1", 20)
        assert usage.asked == "default"


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(data_folder: Path) -> None:
    (data_folder / "blobs").write_text("in the way")
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service)
        assert (status, content(answer)) == (200, OK)
        ((_, usage),) = await collect(service.platform.bus, UsageRecorded, 1)
        assert usage.answer_ref is None


async def test_what_nobody_asked_for_a_task_is_not_kept(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        await ask(service, x_raa_task="")
        ((_, usage),) = await collect(service.platform.bus, UsageRecorded, 1)
        assert usage.answer_ref is None
        assert not (data_folder / "blobs").exists()


async def test_the_same_key_replays_the_stored_answer_without_a_second_call(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint:
        async with router(data_folder, endpoint) as service:
            _, first, _ = await ask(service)
            _, second, _ = await ask(service, x_raa_budget_microusd="0")
        async with router(data_folder, endpoint) as service:
            _, after_restart, _ = await ask(service)
        assert len(endpoint.seen) == 1
    assert [one["raa"]["cached"] for one in (first, second, after_restart)] == [False, True, True]
    assert content(after_restart) == OK


async def test_the_same_key_with_another_request_is_a_conflict(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        await ask(service)
        status, answer, _ = await ask(service, {"temperature": 1})
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (409, "conflict", False)
        status, _, _ = await ask(service, {"temperature": 1}, x_raa_tenant="other")
        assert status == 200


async def test_requests_with_one_key_at_once_share_one_call(data_folder: Path) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request, body: dict[str, Any]) -> web.Response:
        begun.set()
        await go.wait()
        return reply()

    async with Endpoint(slow).serve() as endpoint, router(data_folder, endpoint) as service:
        asking = [asyncio.create_task(ask(service)) for _ in range(5)]
        await begun.wait()
        go.set()
        answers = await asyncio.gather(*asking)
        assert {status for status, _, _ in answers} == {200}
        assert len(endpoint.seen) == 1


async def test_a_call_that_a_stopped_process_left_behind_is_finished_by_the_next(data_folder: Path) -> None:
    begun = asyncio.Event()

    async def hangs(request: web.Request, body: dict[str, Any]) -> web.Response:
        begun.set()
        await asyncio.sleep(60)
        return reply()

    async def answers(request: web.Request, body: dict[str, Any]) -> web.Response:
        return reply()

    async with Endpoint(hangs, answers).serve() as endpoint:
        async with router(data_folder, endpoint) as service:
            waiting = asyncio.create_task(ask(service))
            await begun.wait()
            waiting.cancel()
        async with router(data_folder, endpoint) as service:
            status, answer, _ = await ask(service)
        sent = [headers["idempotency-key"] for headers in endpoint.headers]
    assert (status, content(answer)) == (200, OK)
    assert len(sent) == 2
    assert sent[0] == sent[1]


async def test_a_failed_call_is_tried_again_under_the_same_key(data_folder: Path) -> None:
    bad = web.json_response({"error": {"message": "no such key"}}, status=401)
    async with Endpoint(bad, reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service)
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (424, "model_unavailable", False)
        assert "401: no such key" in answer["error"]["message"]
        assert (await ask(service))[0] == 200


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_response_format_is_left_out_where_it_is_refused_and_not_sent_again(
    data_folder: Path, status: int
) -> None:
    async def picky(request: web.Request, body: dict[str, Any]) -> web.Response:
        if "response_format" in body:
            return web.json_response({"error": {"message": "response_format is unknown"}}, status=status)
        return reply()

    async with Endpoint(picky).serve() as endpoint, router(data_folder, endpoint) as service:
        assert content((await ask(service))[1]) == OK
        assert (await ask(service, key="k2"))[0] == 200
        assert ["response_format" in body for body in endpoint.seen] == [True, False, False]


async def test_a_request_that_is_wrong_anyway_says_what_the_endpoint_said(data_folder: Path) -> None:
    bad = web.json_response({"error": {"message": "model not found"}}, status=404)
    async with Endpoint(bad).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service)
        assert (status, len(endpoint.seen)) == (424, 2)
        assert "model not found" in answer["error"]["message"]


@pytest.mark.parametrize(
    "answer",
    [
        reply(f"```json\n{json.dumps(OK)}\n```"),
        reply(f"<think>hm {{}}</think> Sure: {json.dumps(OK)} Enjoy!"),
        reply(None, tool_calls=[{"function": {"name": "f", "arguments": json.dumps(OK)}}]),
    ],
)
async def test_what_endpoints_wrap_around_an_answer_is_taken_off(data_folder: Path, answer: web.Response) -> None:
    async with Endpoint(answer).serve() as endpoint, router(data_folder, endpoint) as service:
        assert content((await ask(service))[1]) == OK


@pytest.mark.parametrize(
    "broken",
    [
        web.Response(text="<html>bad gateway</html>", status=502),
        web.Response(text="not json"),
        web.json_response({"choices": []}),
        web.json_response({"error": {"message": "loading model"}}, status=503, headers={"retry-after": "0"}),
        web.json_response({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "0.01"}),
        reply(""),
    ],
)
async def test_passing_failures_are_tried_again_within_the_request(data_folder: Path, broken: web.Response) -> None:
    async with Endpoint(broken, reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service)
        assert (status, len(endpoint.seen)) == (200, 2)
        assert content(answer) == OK
        sent = [headers["idempotency-key"] for headers in endpoint.headers]
        assert sent[0] == sent[1]


async def test_a_limit_that_outlasts_the_deadline_is_told_with_its_pause(data_folder: Path) -> None:
    limited = web.json_response({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "77"})
    async with Endpoint(limited).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, headers = await ask(service, x_raa_deadline=in_seconds(5))
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (429, "rate_limited", True)
        assert headers["retry-after"] == "77"
        assert len(endpoint.seen) == 1


async def test_a_slow_answer_is_waited_for_to_the_deadline_and_no_longer(data_folder: Path) -> None:
    async def slow(request: web.Request, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(30)
        return reply()

    async with Endpoint(slow).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service, x_raa_deadline=in_seconds(1))
        assert (status, answer["error"]["retryable"]) == (503, True)
        assert "did not answer in time" in answer["error"]["message"]


async def test_a_cold_start_of_a_minute_and_a_half_is_within_a_deadline_of_two() -> None:
    timeout = _until(time.monotonic() + 120)
    assert timeout.total is not None
    assert timeout.total > 119
    assert timeout.sock_read is None


async def test_an_address_where_nobody_listens_is_tried_for_a_while_and_then_told_as_final(data_folder: Path) -> None:
    gone = Endpoint(reply())
    async with gone.serve():
        pass
    begun = time.monotonic()
    async with router(data_folder, gone, refused_seconds=1) as service:
        status, answer, _ = await ask(service)
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (424, "model_unavailable", False)
        assert f"nobody listens for m1 at {gone.url}" in answer["error"]["message"]
        assert "raa model test" in answer["error"]["hint"]
    assert time.monotonic() - begun < 20


async def test_a_task_that_waits_for_a_model_can_be_asked_for_which_and_how_it_failed(data_folder: Path) -> None:
    gone = Endpoint(reply())
    async with gone.serve():
        pass
    async with router(data_folder, gone, refused_seconds=3) as service, aiohttp.ClientSession() as http:

        async def waiting(tenant: str) -> list[str]:
            async with http.get(f"{service.url}/v1/tasks/t1/waiting", headers={"x-raa-tenant": tenant}) as response:
                found: list[str] = (await response.json())["waiting_for"]
                return found

        asking = asyncio.create_task(ask(service))
        async with asyncio.timeout(10):
            while "nobody listens" not in "".join(said := await waiting("acme")):  # noqa: ASYNC110  # it is asked for
                await asyncio.sleep(0.01)
        assert gone.url in said[0]
        assert await waiting("another") == []
        assert (await asking)[0] == 424
        assert await waiting("acme") == []


async def test_empty_answers_are_asked_for_three_times_and_not_for_as_long_as_there_is_time(data_folder: Path) -> None:
    empty = reply("")
    async with Endpoint(empty).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service)
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (424, "model_unavailable", False)
        assert "the endpoint sent an empty answer" in answer["error"]["message"]
        assert len(endpoint.seen) == 3


async def test_a_connection_cut_in_the_middle_is_a_passing_failure(data_folder: Path) -> None:
    async def cut(request: web.Request, body: dict[str, Any]) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return reply()

    async with Endpoint(cut, reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        assert (await ask(service))[0] == 200


async def test_the_fallback_answers_when_the_first_choice_fails(data_folder: Path) -> None:
    down = Endpoint(web.json_response({"error": "boom"}, status=500))
    async with down.serve(), Endpoint(reply()).serve() as second, router(data_folder, down, second) as service:
        _, answer, _ = await ask(service)
        assert (answer["raa"]["model"], answer["raa"]["fallback"]) == ("m2", True)
        ((_, usage),) = await collect(service.platform.bus, UsageRecorded, 1)
        assert usage.fallback


async def test_a_budget_below_the_worst_case_refuses_before_any_call(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        status, answer, _ = await ask(service, x_raa_budget_microusd="150")
        assert (status, answer["error"]["code"], answer["error"]["retryable"]) == (402, "budget_exhausted", False)
        assert "150 micro-USD are left" in answer["error"]["message"]
        assert endpoint.seen == []
        assert (await ask(service, x_raa_budget_microusd="1000"))[0] == 200
        assert endpoint.seen[0]["max_tokens"] == 100


async def test_a_model_without_price_is_reported_unpriced_never_as_free(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint:
        models = [{"name": "own", "base_url": endpoint.url}]
        async with router(data_folder, models=models) as service:
            _, answer, _ = await ask(service, x_raa_budget_microusd="1")
            assert answer["raa"]["cost_microusd"] is None
            assert b'raa_router_unpriced_calls_total{model="own"} 1.0' in service.metrics.exposition()
        async with router(data_folder, models=models, unpriced="refuse") as service:
            status, answer, _ = await ask(service, key="k2", x_raa_budget_microusd="1000000")
            assert (status, "has no known price" in answer["error"]["message"]) == (402, True)


async def test_an_endpoint_that_does_not_count_tokens_is_settled_at_what_was_reserved(data_folder: Path) -> None:
    async with Endpoint(reply(usage=None)).serve() as endpoint, router(data_folder, endpoint) as service:
        _, answer, _ = await ask(service)
        assert answer["raa"]["cost_microusd"] > 200


async def test_an_endpoint_of_the_environment_is_asked_for_its_only_model(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint:
        async with router(data_folder, models=[], openai_base_url=endpoint.url) as service:
            await ask(service)
            await ask(service, {"model": "named"}, key="k2")
        assert [body["model"] for body in endpoint.seen] == ["only-one", "named"]


async def test_the_offline_model_answers_without_any_configuration_and_costs_nothing(data_folder: Path) -> None:
    prompt = {"role": "user", "content": '# Goal\n\n```json\n{"goal": "what is 2 + 3"}\n```\n'}
    tools = {"role": "system", "content": '# Tools\n\n```json\n[{"name": "calculate"}]\n```\n'}
    async with router(data_folder) as service:
        _, answer, _ = await ask(service, {"messages": [tools, prompt]})
        assert content(answer)["steps"][0]["args"]["expression"] == "2 + 3"
        assert (answer["raa"]["tier"], answer["raa"]["cost_microusd"]) == ("offline", 0)


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        ({"messages": []}, {}, 400, "messages"),
        ({"messages": "hello"}, {}, 400, "messages"),
        ({"stream": True}, {}, 400, "stream"),
        ({"model": "absent"}, {}, 404, "configured are m1, offline"),
        ({}, {"x_raa_tenant": "No Tenant"}, 400, "no tenant"),
        ({}, {"x_raa_task": "a task"}, 400, "no task id"),
        ({}, {"x_raa_budget_microusd": "-1"}, 400, "micro-USD"),
        ({}, {"x_raa_deadline": "soon"}, 400, "x-raa-deadline"),
        ({}, {"x_raa_deadline": "2020-01-01T00:00:00Z"}, 400, "has passed"),
        ({"messages": [{"role": "user", "content": "x" * 800_000}]}, {}, 413, "bytes"),
    ],
)
async def test_a_request_that_cannot_be_used_says_why(
    data_folder: Path, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        got, answer, _ = await ask(service, body, **headers)
        assert got == status, answer
        assert words in answer["error"]["message"]
        assert endpoint.seen == []


async def test_models_are_listed_without_their_keys(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        async with aiohttp.ClientSession() as http, http.get(f"{service.url}/v1/models") as response:
            text = await response.text()
        assert [one["id"] for one in json.loads(text)["data"]] == ["m1", "offline"]
        assert "sk-secret" not in text


async def test_the_key_goes_to_the_endpoint_and_into_no_log_and_no_store(
    data_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = web.json_response({"error": {"message": "no"}}, status=403)
    async with Endpoint(bad).serve() as endpoint, router(data_folder, endpoint) as service:
        await ask(service)
        assert endpoint.headers[0]["authorization"] == "Bearer sk-secret"
    captured = capfd.readouterr()
    assert "sk-secret" not in captured.out + captured.err
    assert all(b"sk-secret" not in path.read_bytes() for path in data_folder.rglob("*") if path.is_file())


async def test_requests_without_a_key_are_each_answered(data_folder: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint, router(data_folder, endpoint) as service:
        assert [(await ask(service, key=None))[0] for _ in range(2)] == [200, 200]
        assert len(endpoint.seen) == 2


async def test_with_redis_a_replay_needs_no_look_into_the_store_and_survives_its_loss(
    tmp_path: Path, redis_url: str
) -> None:
    async with Endpoint(reply()).serve() as endpoint:
        settings = {"openai_base_url": endpoint.url, "redis_url": redis_url, "deployment": f"t{time.time_ns()}"[:20]}
        async with running(build, RouterSettings, tmp_path, **settings) as router:
            first = await ask(router, key="k1")
            again = await ask(router, key="k1")
            other = await ask(router, {"messages": [{"role": "user", "content": "another"}]}, key="k1")
    assert len(endpoint.seen) == 1
    assert (first[0], again[0], other[0]) == (200, 200, 409)
    assert again[1]["raa"]["cached"] is True
    assert again[1]["choices"] == first[1]["choices"]


async def test_an_answer_cache_that_is_away_only_costs_the_look(tmp_path: Path) -> None:
    async with Endpoint(reply()).serve() as endpoint:
        settings = {"openai_base_url": endpoint.url, "redis_url": "redis://127.0.0.1:1/0"}
        async with running(build, RouterSettings, tmp_path, **settings) as router:
            first = await ask(router, key="k1")
            again = await ask(router, key="k1")
    assert (first[0], again[0]) == (200, 200)
    assert len(endpoint.seen) == 1
