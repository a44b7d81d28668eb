"""The tool catalog as executors publish it over HTTP, kept fresh in the background."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import aiohttp
from pydantic import ValidationError

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.telemetry import Logger
from raa_schemas.tool import ToolList, ToolSpec

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_EAGER_SECONDS = 0.2


class HttpToolCatalog:
    """Polls GET {executor}/v1/tools. The last answer stays in force while the executor is away."""

    def __init__(self, http: aiohttp.ClientSession, executor_url: str, refresh_seconds: float, log: Logger) -> None:
        self._http = http
        self._url = f"{executor_url.rstrip('/')}/v1/tools"
        self._refresh_seconds = refresh_seconds
        self._log = log
        self._tools: Mapping[str, ToolSpec] | None = None
        self._digest = ""

    def tools(self) -> Mapping[str, ToolSpec]:
        if self._tools is None:
            raise DependencyUnavailable(f"no tools are known yet; is the executor up at {self._url}?", retry_after=0.5)
        return self._tools

    async def refresh(self) -> None:
        """Fetch the declarations once; raises DependencyUnavailable and keeps the old ones."""
        try:
            async with self._http.get(self._url, timeout=_TIMEOUT) as response:
                response.raise_for_status()
                answer = ToolList.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValidationError) as problem:
            raise DependencyUnavailable(f"{self._url} does not answer with a list of tools: {problem}") from None
        if answer.digest != self._digest or self._tools is None:
            self._log.info("tools_loaded", tools=[tool.name for tool in answer.tools], digest=answer.digest)
            self._tools = MappingProxyType({tool.name: tool for tool in answer.tools})
            self._digest = answer.digest

    async def keep_fresh(self) -> None:
        """Refresh for ever: eagerly until the first answer, then every `refresh_seconds`."""
        while True:
            try:
                await self.refresh()
            except DependencyUnavailable as problem:
                self._log.debug("tools_unavailable", reason=str(problem))
            await asyncio.sleep(self._refresh_seconds if self._tools is not None else _EAGER_SECONDS)

    async def ping(self) -> None:
        """Raise DependencyUnavailable while no tools are known."""
        self.tools()
