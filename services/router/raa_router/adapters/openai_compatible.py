"""Models behind any endpoint that speaks the chat form of OpenAI; foreign errors become ours here and nowhere else."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn

import aiohttp

from raa_router.ports import Endpoint, ModelRefused, Question
from raa_runtime.errors import DeadlineExceeded, DependencyUnavailable, RateLimited

_CONNECT_SECONDS: Final = 10.0
_MAX_BYTES: Final = 8 * 1024 * 1024
_SHOWN: Final = 300
_PASSING: Final = frozenset({408, 409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_NO_RESPONSE_FORMAT: Final = frozenset({400, 404, 415, 422})


class OpenAICompatibleModel:
    """Ask over one long-lived session. What endpoints turned out not to know is remembered for this process."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._formless: set[tuple[str | None, str]] = set()
        self._served: dict[str, str] = {}

    async def complete(self, endpoint: Endpoint, question: Question) -> dict[str, Any]:
        """Ask once; once more without the response format where the endpoint may not know it."""
        deadline = time.monotonic() + question.timeout_seconds
        model = endpoint.model or await self._only_model(endpoint, deadline)
        place = (endpoint.base_url, model)
        body = {**question.parameters, "model": model, "messages": question.messages, "stream": False}
        if question.response_format is None or place in self._formless:
            return await self._posted(endpoint, question, body, deadline)
        try:
            return await self._posted(
                endpoint, question, body | {"response_format": question.response_format}, deadline
            )
        except _FormatRefusedError as refused:
            try:
                completion = await self._posted(endpoint, question, body, deadline)
            except _FormatRefusedError:
                raise ModelRefused(str(refused)) from None
            self._formless.add(place)
            return completion

    async def _posted(
        self, endpoint: Endpoint, question: Question, body: dict[str, Any], deadline: float
    ) -> dict[str, Any]:
        headers = _headers(endpoint) | {"idempotency-key": question.key}
        async with (
            _translated(endpoint),
            self._http.post(
                _url(endpoint, "chat/completions"), json=body, headers=headers, timeout=_until(deadline)
            ) as response,
        ):
            content = await response.content.read(_MAX_BYTES + 1)
            while len(content) <= _MAX_BYTES and (more := await response.content.read(_MAX_BYTES)):
                content += more
        if response.status != 200:
            _refuse(endpoint, response, content)
        return _object(endpoint, content)

    async def _only_model(self, endpoint: Endpoint, deadline: float) -> str:
        """Ask the endpoint which model it serves; the first it lists."""
        base = endpoint.base_url or ""
        if base not in self._served:
            async with (
                _translated(endpoint),
                self._http.get(
                    _url(endpoint, "models"), headers=_headers(endpoint), timeout=_until(deadline)
                ) as response,
            ):
                content = await response.read()
            if response.status != 200:
                _refuse(endpoint, response, content)
            listed = _object(endpoint, content).get("data")
            first = listed[0].get("id") if isinstance(listed, list) and listed and isinstance(listed[0], dict) else None
            if not isinstance(first, str):
                raise ModelRefused(f"{endpoint.base_url} lists no model; name one with OPENAI_MODEL")
            self._served[base] = first
        return self._served[base]


class _FormatRefusedError(ModelRefused):
    """The endpoint refused a request that it may take without a response format."""


@asynccontextmanager
async def _translated(endpoint: Endpoint) -> AsyncIterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as problem:
        raise DependencyUnavailable(f"{endpoint.name} at {endpoint.base_url}: no connection in time") from problem
    except TimeoutError:
        raise DeadlineExceeded(f"{endpoint.name} at {endpoint.base_url} did not answer in time") from None
    except aiohttp.ClientConnectorError as problem:
        raise DependencyUnavailable(f"nobody listens for {endpoint.name} at {endpoint.base_url}") from problem.os_error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise ModelRefused(f"{endpoint.base_url!r} is no address; write for example http://127.0.0.1:8000/v1") from None
    except aiohttp.ClientError as problem:
        reason = str(problem) or type(problem).__name__
        raise DependencyUnavailable(f"{endpoint.name} at {endpoint.base_url} broke off: {reason[:_SHOWN]}") from None


def _until(deadline: float) -> aiohttp.ClientTimeout:
    """Wait to the deadline and not less: a model may need a minute and a half to load before its first byte."""
    return aiohttp.ClientTimeout(total=max(deadline - time.monotonic(), 0.05), sock_connect=_CONNECT_SECONDS)


def _url(endpoint: Endpoint, path: str) -> str:
    if not endpoint.base_url:
        raise ModelRefused(f"the model {endpoint.name} has no base_url; set it in RAA_MODELS or as OPENAI_BASE_URL")
    return f"{endpoint.base_url.rstrip('/')}/{path}"


def _headers(endpoint: Endpoint) -> dict[str, str]:
    return {"authorization": f"Bearer {endpoint.api_key.get_secret_value()}"} if endpoint.api_key else {}


def _refuse(endpoint: Endpoint, response: aiohttp.ClientResponse, content: bytes) -> NoReturn:
    message = f"{endpoint.name} at {endpoint.base_url} answered {response.status}: {_reason(content)}"
    if response.status == 429:
        raise RateLimited(message, _retry_after(response))
    if response.status in _PASSING:
        raise DependencyUnavailable(message, _retry_after(response))
    raise (_FormatRefusedError if response.status in _NO_RESPONSE_FORMAT else ModelRefused)(message)


def _reason(content: bytes) -> str:
    """Find the message in an error body, of whatever shape."""
    text = content.decode(errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(text.split())[:_SHOWN] or "no reason given"
    for key in ("error", "message", "detail"):
        found = found.get(key, found) if isinstance(found, dict) else found
    return (found if isinstance(found, str) else json.dumps(found))[:_SHOWN]


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Read the header retry-after, in seconds or as a date."""
    written = response.headers.get("retry-after", "")
    try:
        return max(float(written), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(written).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None


def _object(endpoint: Endpoint, content: bytes) -> dict[str, Any]:
    if len(content) > _MAX_BYTES:
        raise DependencyUnavailable(f"{endpoint.name} sent more than {_MAX_BYTES} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        shown = " ".join(content.decode(errors="replace").split())[:_SHOWN]
        raise DependencyUnavailable(f"what answers at {endpoint.base_url} sent no JSON object but {shown!r}")
    return found
