"""The key-value port on Redis: short timeouts, no hidden retries, and no reply ever read by the wrong caller."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from raa_runtime.errors import DependencyUnavailable, Misconfigured
from raa_runtime.kv import not_a_number
from raa_runtime.scope import TenantScope
from raa_schemas.ids import owned

_TIMEOUT_SECONDS = 0.5
_CALL_SECONDS = 1.0
# more commands than these wait for a moment; the client's own pool would refuse them
_CONNECTIONS = 16
# the time to live belongs to the first addition, in the same step, or a crash between would leave a limit for ever
_INCR = """
local fresh = redis.call('EXISTS', KEYS[1]) == 0
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
if fresh and tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return value
"""


class RedisKeyValue:
    """A `KeyValue` on a Redis server shared with other deployments; keys are `deployment.kv:tenant:key`."""

    def __init__(self, url: str, deployment: str) -> None:
        self._prefix = owned(deployment, "kv")
        try:
            pool: Any = BlockingConnectionPool.from_url(
                url, max_connections=_CONNECTIONS, timeout=_TIMEOUT_SECONDS, socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0))  # fmt: skip
        except ValueError as problem:
            raise Misconfigured(f"RAA_REDIS_URL is no Redis URL: {problem}; use redis://host:port/0") from None
        self._client = Redis.from_pool(pool)
        self._incr = self._client.register_script(_INCR)

    def _key(self, scope: TenantScope, key: str) -> str:
        return f"{self._prefix}:{scope.tenant}:{key}"

    async def get(self, scope: TenantScope, key: str) -> bytes | None:
        """Read a value."""
        value: bytes | None = await _finished(self._client.get(self._key(scope, key)))
        return value

    async def put(self, scope: TenantScope, key: str, value: bytes, ttl: timedelta | None = None) -> None:
        """Write a value."""
        await _finished(self._client.set(self._key(scope, key), value, px=_milliseconds(ttl) or None))

    async def delete(self, scope: TenantScope, key: str) -> None:
        """Delete a value."""
        await _finished(self._client.delete(self._key(scope, key)))

    async def incr(self, scope: TenantScope, key: str, by: int = 1, ttl: timedelta | None = None) -> int:
        """Add to a counter, in one atomic step."""
        try:
            return int(await _finished(self._incr(keys=[self._key(scope, key)], args=[by, _milliseconds(ttl)])))
        except ResponseError:
            raise not_a_number(key) from None

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Raise DependencyUnavailable when Redis does not answer."""
        await _finished(self._client.ping())


_NO_NUMBER = "not an integer"


async def _finished(command: Awaitable[Any]) -> Any:
    """Run a command to its end even when the caller is cancelled.

    A cancelled command would leave its reply on the connection, and another tenant's command could read it. The client
    closes such connections since 4.5.4; not cancelling at all does not depend on that, and keeps the connection.
    """
    task = asyncio.ensure_future(command)
    task.add_done_callback(_retrieve)
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            return await asyncio.shield(task)
    except (AuthenticationError, NoPermissionError) as problem:
        raise Misconfigured(f"Redis refuses: {problem}; set user and password in RAA_REDIS_URL") from None
    except ResponseError as problem:
        if _NO_NUMBER in str(problem):
            raise
        raise DependencyUnavailable(f"Redis refuses: {problem}") from None
    except (RedisError, OSError, TimeoutError) as problem:
        raise DependencyUnavailable(f"Redis does not answer: {type(problem).__name__} {problem}") from None


def _retrieve(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled():
        task.exception()


def _milliseconds(ttl: timedelta | None) -> int:
    return 0 if ttl is None else max(1, int(ttl.total_seconds() * 1000))
