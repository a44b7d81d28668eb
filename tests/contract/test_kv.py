"""What every key-value store promises, in process and on a real Redis."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from raa_runtime.errors import DependencyUnavailable, Misconfigured, PermanentError
from raa_runtime.kv import InProcessKeyValue, KeyValue
from raa_runtime.kv_redis import RedisKeyValue
from raa_runtime.scope import TenantScope
from raa_schemas.ids import TenantId
from tests.backends.process import free_port
from tests.contract.wire import wire_to

pytestmark = pytest.mark.anyio
ACME, OTHER = TenantScope(TenantId("acme")), TenantScope(TenantId("other"))
MOMENT = timedelta(milliseconds=20)


@pytest.fixture(params=["in process", "redis"])
async def kv(request: pytest.FixtureRequest, deployment: str) -> AsyncIterator[KeyValue]:
    made: KeyValue = (
        InProcessKeyValue()
        if request.param == "in process"
        else RedisKeyValue(request.getfixturevalue("redis_url"), deployment)
    )
    yield made
    await made.close()


async def until_gone(kv: KeyValue, key: str) -> None:
    async with asyncio.timeout(10):
        while await kv.get(ACME, key) is not None:
            await kv.ping()


async def test_a_value_comes_back_until_it_is_replaced_or_deleted(kv: KeyValue):
    assert await kv.get(ACME, "k") is None
    await kv.put(ACME, "k", b"\x00\xff")
    assert await kv.get(ACME, "k") == b"\x00\xff"
    await kv.put(ACME, "k", b"")
    assert await kv.get(ACME, "k") == b""
    await kv.delete(ACME, "k")
    await kv.delete(ACME, "k")
    assert await kv.get(ACME, "k") is None


async def test_a_tenant_sees_only_its_own_values(kv: KeyValue):
    await kv.put(ACME, "other:k", b"acme")
    await kv.put(ACME, "k", b"acme")
    assert await kv.get(OTHER, "k") is None
    assert await kv.incr(OTHER, "k") == 1
    await kv.delete(OTHER, "k")
    assert await kv.get(ACME, "k") == b"acme"


async def test_a_value_goes_when_its_time_is_over_and_a_new_one_without_a_time_stays(kv: KeyValue):
    await kv.put(ACME, "k", b"v", ttl=MOMENT)
    await until_gone(kv, "k")
    await kv.put(ACME, "k", b"v", ttl=MOMENT)
    await kv.put(ACME, "k", b"w")
    await kv.put(ACME, "probe", b"p", ttl=2 * MOMENT)
    await until_gone(kv, "probe")
    assert await kv.get(ACME, "k") == b"w"


async def test_concurrent_additions_all_count(kv: KeyValue):
    totals = await asyncio.gather(*(kv.incr(ACME, "n", 2) for _ in range(50)))
    assert sorted(totals) == list(range(2, 102, 2))
    assert await kv.incr(ACME, "n", -100) == 0
    assert await kv.get(ACME, "n") == b"0"


async def test_the_time_of_a_counter_runs_from_its_first_addition(kv: KeyValue):
    await kv.incr(ACME, "n", 5, ttl=MOMENT)
    async with asyncio.timeout(10):
        # each addition names a time anew; if that counted, the counter would never start again
        while await kv.incr(ACME, "n", 5, ttl=MOMENT) != 5:
            await kv.ping()


async def test_counting_with_a_value_that_is_no_number_is_refused(kv: KeyValue):
    await kv.put(ACME, "k", b"text")
    with pytest.raises(PermanentError, match="no number"):
        await kv.incr(ACME, "k")


async def test_it_answers_the_ping(kv: KeyValue):
    await kv.ping()


async def test_deployments_on_one_redis_do_not_meet(redis_url: str, deployment: str):
    mine, theirs = RedisKeyValue(redis_url, deployment), RedisKeyValue(redis_url, f"{deployment}x")
    await mine.put(ACME, "k", b"v")
    assert await theirs.get(ACME, "k") is None
    await mine.close()
    await theirs.close()


async def test_cancelled_commands_never_hand_their_reply_to_another_tenant(redis_url: str, deployment: str):
    kv = RedisKeyValue(redis_url, deployment)
    await kv.put(ACME, "k", b"acme")
    await kv.put(OTHER, "k", b"other")

    async def read(scope: TenantScope, turns: int) -> None:
        reading = asyncio.create_task(kv.get(scope, "k"))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await reading == scope.tenant.encode()
        assert await kv.get(scope, "k") == scope.tenant.encode()

    for turns in range(12):
        await asyncio.gather(*(read(scope, turns) for scope in (ACME, OTHER) for _ in range(40)))
    await kv.close()


async def test_a_redis_that_is_away_or_silent_is_unavailable_within_a_second(redis_url: str, deployment: str):
    away = RedisKeyValue(f"redis://127.0.0.1:{free_port()}/0", deployment)
    with pytest.raises(DependencyUnavailable):
        await away.ping()
    await away.close()
    server = urlsplit(redis_url)
    async with wire_to(server.hostname or "", server.port or 0) as wire:
        kv = RedisKeyValue(f"redis://127.0.0.1:{wire.port}/0", deployment)
        await kv.ping()
        wire.cut_at(b"unlucky", "reply")
        async with asyncio.timeout(2):
            with pytest.raises(DependencyUnavailable):
                await kv.incr(ACME, "unlucky")
        # sent once, not repeated behind our back
        assert await kv.get(ACME, "unlucky") == b"1"
        await kv.close()


def test_a_url_that_is_none_is_refused_with_the_name_of_its_setting():
    with pytest.raises(Misconfigured, match="RAA_REDIS_URL"):
        RedisKeyValue("http://example", "")


async def test_the_in_process_store_forgets_the_least_recently_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raa_runtime.kv._MAX_ENTRIES", 3)
    kv = InProcessKeyValue()
    for key in "abc":
        await kv.put(ACME, key, b"v")
    await kv.get(ACME, "a")
    await kv.put(ACME, "d", b"v")
    assert [key for key in "abcd" if await kv.get(ACME, key)] == ["a", "c", "d"]
