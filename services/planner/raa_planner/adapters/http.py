"""What the HTTP adapters share: one place where foreign errors become ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from raa_runtime.errors import DependencyUnavailable


@asynccontextmanager
async def translated(service: str, url: str) -> AsyncIterator[None]:
    """Turn connection failures and timeouts into DependencyUnavailable that names the service and its address."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        reason = str(problem) or type(problem).__name__
        raise DependencyUnavailable(f"the {service} at {url} does not answer: {reason}") from None


def retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Read the header retry-after, in seconds."""
    try:
        return float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
