"""Safety over HTTP: whatever is not a clear `off` stops everything."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from raa_executor.adapters.safety_http import HttpKeyRing, HttpKillSwitch
from raa_runtime.errors import DependencyUnavailable
from tests.unit.executor.steps import SAFETY

pytestmark = pytest.mark.anyio
PUBLIC = base64.b64encode(SAFETY.public_key().public_bytes_raw()).decode()


@asynccontextmanager
async def safety(answer: Any, status: int = 200) -> AsyncIterator[tuple[aiohttp.ClientSession, str, list[str]]]:
    """A server that gives one answer to everything and notes which tenants asked."""
    tenants: list[str] = []

    async def reply(request: web.Request) -> web.Response:
        tenants.append(f"{request.query.get('tenant')} {request.headers.get('x-raa-tenant')}")
        return web.json_response(answer, status=status) if answer != "garbage" else web.Response(text="<html>")

    app = web.Application()
    app.router.add_get("/{path:.*}", reply)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http:
        yield http, f"http://127.0.0.1:{port}", tenants
    await runner.cleanup()


async def test_a_switch_that_is_off_lets_tools_start():
    async with safety({"on": False, "why": ""}) as (http, url, tenants):
        assert await HttpKillSwitch(http, url).closed("acme") is None
        assert tenants == ["acme acme"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"on": True}, 200),
        ({}, 200),
        ({"on": None}, 200),
        ({"on": 0}, 200),
        ([], 200),
        ("garbage", 200),
        ({"on": False}, 500),
        ({"on": False}, 404),
    ],
)
async def test_anything_but_a_clear_off_stops_everything(answer: Any, status: int):
    async with safety(answer, status) as (http, url, _):
        assert await HttpKillSwitch(http, url).closed("acme") is not None


async def test_a_safety_that_is_away_stops_everything_and_is_named():
    async with aiohttp.ClientSession() as http:
        why = await HttpKillSwitch(http, "http://127.0.0.1:9").closed("acme")
        assert why is not None
        assert "http://127.0.0.1:9" in why
        with pytest.raises(DependencyUnavailable):
            await HttpKillSwitch(http, "http://127.0.0.1:9").ping()


async def test_fetched_keys_verify_signatures_and_an_unknown_one_is_said_to_be_unknown():
    async with safety({"keys": [{"key_id": "k1", "public_key": PUBLIC}]}) as (http, url, _):
        keys = HttpKeyRing(http, url)
        signature = base64.b64encode(SAFETY.sign(b"content")).decode()
        assert keys.check("k1", b"content", signature) == "unknown_key"
        await keys.refresh()
        assert keys.check("k1", b"content", signature) == "good"
        assert keys.check("k1", b"contenT", signature) == "bad"
        assert keys.check("k2", b"content", signature) == "unknown_key"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"keys": [{"key_id": "k1"}]},
        {"keys": [{"key_id": "k1", "public_key": "x"}]},
    ],
)
async def test_an_answer_that_is_no_list_of_keys_changes_nothing(answer: Any):
    async with safety(answer) as (http, url, _):
        keys = HttpKeyRing(http, url)
        keys.learn({"k1": PUBLIC})
        with pytest.raises(DependencyUnavailable):
            await keys.refresh()
        assert keys.check("k1", b"c", base64.b64encode(SAFETY.sign(b"c")).decode()) == "good"
