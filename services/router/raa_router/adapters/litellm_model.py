"""Models of providers that only litellm speaks to; it is imported at the first call, because that takes seconds."""

import asyncio
import importlib
import os
from types import ModuleType
from typing import Any

from raa_router.ports import Endpoint, ModelRefused, Question
from raa_runtime.errors import DeadlineExceeded, DependencyUnavailable, RateLimited

_PASSING_STATUS = frozenset({408, 409, 500, 502, 503, 504, 529})


class LitellmModel:
    """Ask through litellm, without its own retries and with our deadline."""

    def __init__(self) -> None:
        self._loading = asyncio.Lock()
        self._library: ModuleType | None = None

    async def complete(self, endpoint: Endpoint, question: Question) -> dict[str, Any]:
        """Ask once; raises ModelRefused when litellm is not installed."""
        library = await self._loaded()
        openai = importlib.import_module("openai")  # comes with litellm, whose errors descend from its
        arguments: dict[str, Any] = {
            **question.parameters,
            "model": endpoint.model,
            "messages": question.messages,
            "timeout": question.timeout_seconds,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,
        }
        if question.response_format is not None:
            arguments["response_format"] = question.response_format
        if endpoint.api_key is not None:
            arguments["api_key"] = endpoint.api_key.get_secret_value()
        if endpoint.base_url is not None:
            arguments["api_base"] = endpoint.base_url
        try:
            async with asyncio.timeout(question.timeout_seconds):
                response = await library.acompletion(**arguments)
        except TimeoutError:
            raise DeadlineExceeded(f"{endpoint.name} did not answer in time") from None
        except openai.OpenAIError as problem:
            raise _ours(endpoint, problem) from None
        completion: dict[str, Any] = response.model_dump()
        return completion

    async def _loaded(self) -> ModuleType:
        async with self._loading:
            if self._library is None:
                self._library = await asyncio.to_thread(_import)
            return self._library


def _import() -> ModuleType:
    # without it, importing fetches a price map from the network
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    try:
        return importlib.import_module("litellm")
    except ImportError as problem:
        raise ModelRefused(f"litellm is not installed ({problem}); pip install 'raa-router[litellm]'") from None


def _ours(endpoint: Endpoint, problem: Exception) -> Exception:
    """Translate by status: all errors of the library that have one carry it."""
    status = getattr(problem, "status_code", None)
    message = f"{endpoint.name}: {str(problem)[:300]}"
    if status == 429:
        headers = getattr(getattr(problem, "response", None), "headers", None) or {}
        written = str(headers.get("retry-after", ""))
        return RateLimited(message, float(written) if written.replace(".", "", 1).isdecimal() else None)
    if status is None or status in _PASSING_STATUS:
        return DependencyUnavailable(message)
    return ModelRefused(message)
