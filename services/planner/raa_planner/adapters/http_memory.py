"""Memory over HTTP."""

import aiohttp
from pydantic import ValidationError

from raa_planner.adapters.http import translated
from raa_runtime.errors import DependencyUnavailable
from raa_schemas.recall import RecallAnswer, RecallRequest


class HttpMemory:
    """The memory service's `POST /v1/recall`."""

    def __init__(self, http: aiohttp.ClientSession, url: str, timeout_seconds: float = 1.0) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        """Ask for lessons."""
        headers = {"x-raa-tenant": tenant, "content-type": "application/json"}
        body = request.model_dump_json().encode()
        async with (
            translated("memory service", self._url),
            self._http.post(f"{self._url}/v1/recall", data=body, headers=headers, timeout=self._timeout) as response,
        ):
            content = await response.read()
        if response.status != 200:
            raise DependencyUnavailable(f"the memory service at {self._url} answered {response.status}")
        try:
            return RecallAnswer.model_validate_json(content)
        except ValidationError as problem:
            raise DependencyUnavailable(f"the memory service at {self._url} sent no recall answer: {problem}") from None

    async def ping(self) -> None:
        """Raise DependencyUnavailable when memory is not there."""
        health = f"{self._url}/healthz"
        async with translated("memory service", self._url), self._http.get(health, timeout=self._timeout):
            return
