"""The list of tools, read from an executor and kept while it is away."""

import asyncio
from typing import Final

import aiohttp
from pydantic import ValidationError

from raa_planner.adapters.http import translated
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.telemetry import Logger
from raa_schemas.tool import ToolList

_TIMEOUT_SECONDS: Final = 5.0


class HttpToolCatalog:
    """An executor's `GET /v1/tools`, as of the last refresh."""

    def __init__(self, http: aiohttp.ClientSession, url: str, log: Logger, refresh_seconds: float = 10.0) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._log = log
        self._refresh_seconds = refresh_seconds
        self._known: ToolList | None = None

    async def tools(self) -> ToolList:
        """Give the last list read; reads it if there is none yet."""
        return self._known or await self.refresh()

    async def refresh(self) -> ToolList:
        """Read the list; raises DependencyUnavailable."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with (
            translated("executor", self._url),
            self._http.get(f"{self._url}/v1/tools", timeout=timeout) as response,
        ):
            content = await response.read()
        if response.status != 200:
            raise DependencyUnavailable(f"the executor at {self._url} answered {response.status} to GET /v1/tools")
        try:
            self._known = ToolList.model_validate_json(content)
        except ValidationError:
            raise DependencyUnavailable(f"what answers at {self._url} is no executor: no list of tools") from None
        return self._known

    async def refresh_loop(self) -> None:
        """Read the list again and again, so that new tools show without a restart; runs until cancelled."""
        while True:
            try:
                await self.refresh()
            except DependencyUnavailable as problem:
                self._log.debug("tools_not_refreshed", reason=str(problem))
            await asyncio.sleep(self._refresh_seconds)
