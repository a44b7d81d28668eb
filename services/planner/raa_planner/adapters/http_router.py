"""Models through the router, which speaks the OpenAI form."""

from http import HTTPStatus
from typing import Any, Final, NoReturn

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from raa_planner.adapters.http import retry_after, translated
from raa_planner.ports import ModelAnswer, Question
from raa_runtime.activities import ActivityFailed
from raa_runtime.clock import Clock
from raa_runtime.errors import DependencyUnavailable, RateLimited
from raa_schemas.canonical import digest
from raa_schemas.errors import CODES, ErrorInfo, error

_PING_SECONDS: Final = 2.0


class _Said(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Said = Field(default_factory=_Said)


class _Extension(BaseModel):
    model: str | None = None
    cost_microusd: int | None = None


class _Completion(BaseModel):
    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    raa: _Extension = Field(default_factory=_Extension)


class _Problem(BaseModel):
    code: str = "model_unavailable"
    message: str = "the router gave no reason"
    retryable: bool = False
    hint: str | None = None


class _Refusal(BaseModel):
    error: _Problem = Field(default_factory=_Problem)


class HttpRouter:
    """The router's `POST /v1/chat/completions`."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str, clock: Clock) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._model = model
        self._clock = clock

    async def complete(self, question: Question) -> ModelAnswer:
        """Ask the configured model, until the question's deadline.

        A key that is taken by another prompt means that the list of tools changed between a crash and this re-run. Then
        the key goes on with the prompt's digest: still one call for one prompt.
        """
        status, content = await self._ask(question, question.key)
        if status == HTTPStatus.CONFLICT:
            status, content = await self._ask(question, f"{question.key}/{digest(question.messages)[-16:]}")
        if status != HTTPStatus.OK:
            _refuse(status, content)
        return self._answer(content)

    async def _ask(self, question: Question, key: str) -> tuple[int, bytes]:
        left = (question.deadline - self._clock.now()).total_seconds()
        timeout = aiohttp.ClientTimeout(total=max(left, 0.1))
        address, headers = f"{self._url}/v1/chat/completions", _headers(question, key)
        async with (
            translated("router", self._url),
            self._http.post(address, json=self._body(question), headers=headers, timeout=timeout) as response,
        ):
            content = await response.read()
        if response.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            _pause(response, content)
        return response.status, content

    def _body(self, question: Question) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": question.messages,
            "temperature": 0,
            "response_format": {"type": "json_object"},
        }

    def _answer(self, content: bytes) -> ModelAnswer:
        try:
            completion = _Completion.model_validate_json(content)
        except ValidationError:
            raise DependencyUnavailable(f"what answers at {self._url} is no router: no choices in its answer") from None
        return ModelAnswer(
            text=completion.choices[0].message.content or "",
            model=completion.raa.model or completion.model,
            cost_microusd=completion.raa.cost_microusd or 0,
        )

    async def ping(self) -> None:
        """Raise DependencyUnavailable when the router is not there."""
        timeout = aiohttp.ClientTimeout(total=_PING_SECONDS)
        async with translated("router", self._url), self._http.get(f"{self._url}/healthz", timeout=timeout):
            return


def _headers(question: Question, key: str) -> dict[str, str]:
    headers = {
        "idempotency-key": key,
        "x-raa-tenant": question.tenant,
        "x-raa-task": question.task_id,
        "x-raa-purpose": "plan",
        "x-raa-deadline": question.deadline.isoformat(),
    }
    if question.budget_microusd is not None:
        headers["x-raa-budget-microusd"] = str(question.budget_microusd)
    return headers


def _pause(response: aiohttp.ClientResponse, content: bytes) -> NoReturn:
    problem = _problem(content)
    kind = RateLimited if response.status == HTTPStatus.TOO_MANY_REQUESTS else DependencyUnavailable
    raise kind(problem.message, retry_after(response))


def _refuse(status: int, content: bytes) -> NoReturn:
    problem = _problem(content)
    if problem.retryable or status in {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}:
        raise DependencyUnavailable(problem.message)
    if problem.code in CODES:
        raise ActivityFailed(error(problem.code, problem.message))
    raise ActivityFailed(ErrorInfo(code=problem.code, message=problem.message, hint=problem.hint))


def _problem(content: bytes) -> _Problem:
    try:
        return _Refusal.model_validate_json(content).error
    except ValidationError:
        return _Problem(message=f"the router refused: {content[:200].decode(errors='replace')}", retryable=False)
