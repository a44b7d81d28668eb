"""Asks the chosen models in order until one answers, within the time the caller gives."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raa_router.domain.catalogue import Catalogue, ModelSpec, UnknownModelError
from raa_router.domain.chat import KEPT, Answer
from raa_router.domain.money import cost_of, worst_case
from raa_router.domain.request import ChatRequest
from raa_router.domain.tolerate import UnusableAnswerError, content_of, tokens_of
from raa_router.metrics import RouterMetrics
from raa_router.ports import ModelClient, ModelRefused, Question
from raa_runtime.activities import ActivityFailed, Call, Run
from raa_runtime.blobs import BlobStore
from raa_runtime.errors import DeadlineExceeded, RateLimited, TransientError
from raa_runtime.telemetry import Logger
from raa_schemas.canonical import canonical_bytes
from raa_schemas.errors import ErrorInfo

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
_UNUSABLE_ROUNDS: Final = 3  # each was paid, and the fourth is no better
Problem = TransientError | ModelRefused


class _UnusableError(TransientError):
    """The model answered, and there is nothing in it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long failing models are tried again, in seconds; `refused` where nobody listens at their addresses."""

    failing: float
    refused: float

    def is_over(self, problems: Sequence[Problem], rounds: int, spent: float) -> bool:
        """Say whether another round after `spent` seconds is no use: a wrong address, or answers that stay empty."""
        if _nobody_there(problems):
            return spent > self.refused
        return rounds >= _UNUSABLE_ROUNDS and all(isinstance(one, _UnusableError | ModelRefused) for one in problems)


class Completion:
    """The activity `complete`. It is keyed: run again after a crash, it sends the same idempotency key."""

    def __init__(
        self, catalogue: Catalogue, clients: Mapping[str, ModelClient], metrics: RouterMetrics, patience: Patience
    ) -> None:
        self._catalogue = catalogue
        self._clients = clients
        self._metrics = metrics
        self._patience = patience
        self._waiting: dict[tuple[str, str], dict[str, str]] = {}

    def waiting(self, tenant: str, task: str) -> list[str]:
        """Say which endpoints a task of this process waits for now, and how each failed last."""
        return list(self._waiting.get((tenant, task), {}).values())

    async def __call__(self, call: Call) -> Any:
        """Return the answer as JSON; raises ActivityFailed when no model gave one in time."""
        try:
            return await self._until_answered(call)
        finally:
            self._note(call, None)

    def _note(self, call: Call, said: str | None) -> None:
        """Keep what a call waits for; None: it waits no more."""
        if (task := call.args.get("task")) is None:
            return
        calls = self._waiting.setdefault((call.tenant, task), {})
        if said is not None:
            calls[call.activity_id] = said
        elif not (calls.pop(call.activity_id, None), calls)[1]:
            del self._waiting[call.tenant, task]

    async def _until_answered(self, call: Call) -> Any:
        request = ChatRequest.model_validate(call.args["request"])
        begun, pause, rounds = call.clock.monotonic(), _FIRST_PAUSE, 0
        while True:
            answer = await self._round(call, request)
            if isinstance(answer, Answer):
                return answer.model_dump(mode="json")
            rounds += 1
            self._note(call, f"{_told(answer).message}; tried {rounds} times")
            wait = _wait(answer, pause)
            spent = call.clock.monotonic() - begun
            if self._patience.is_over(answer, rounds, spent + (wait or 0.0)):
                raise ActivityFailed(_told(answer, final=True))
            if wait is None or wait + 0.1 > call.remaining_seconds() or spent + wait > self._patience.failing:
                raise ActivityFailed(_told(answer))
            await asyncio.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _round(self, call: Call, request: ChatRequest) -> Answer | list[Problem]:
        problems: list[Problem] = []
        for place, name in enumerate(call.args["models"]):
            try:
                spec = self._catalogue.find(name)
            except UnknownModelError as gone:
                problems.append(ModelRefused(str(gone)))
                continue
            answer = await self._asked(call, spec, request, fallback=place > 0)
            if isinstance(answer, Answer):
                return answer
            problems.append(answer)
        return problems

    async def _asked(self, call: Call, spec: ModelSpec, request: ChatRequest, *, fallback: bool) -> Answer | Problem:
        question = _question(call, spec, request)
        if (call.tenant, call.args.get("task")) not in self._waiting:
            self._note(call, f"{spec.name} at {spec.endpoint.base_url or 'this process'} has not answered yet")
        begun = call.clock.monotonic()
        try:
            completion = await self._clients[spec.protocol].complete(spec.endpoint, question)
            answer = _answer(completion, spec, request)
        except (TransientError, ModelRefused) as problem:
            self._metrics.failed(spec, type(problem).__name__)
            return problem
        except UnusableAnswerError as garbage:
            self._metrics.failed(spec, "UnusableAnswer")
            return _UnusableError(f"{spec.name} at {spec.endpoint.base_url}: {garbage}")
        seconds = call.clock.monotonic() - begun
        answer = answer.model_copy(update={"latency_ms": int(seconds * 1000), "fallback": fallback})
        self._metrics.answered(answer, seconds)
        return answer


@dataclass(frozen=True, slots=True)
class Keeping:
    """Stores each answer that was given for a task among the task's blobs, so that the task can be replayed."""

    answer: Run
    blobs: BlobStore
    log: Logger

    async def __call__(self, call: Call) -> Any:
        """Answer; an answer that cannot be kept is given all the same, for it was paid."""
        said = await self.answer(call)
        task = call.args.get("task")
        if task is None:
            return said
        try:
            sha256 = await self.blobs.put(call.scope, task, canonical_bytes(said))
        except TransientError as problem:
            self.log.warning("answer_not_kept", tenant=call.tenant, task=task, reason=str(problem))
            return said
        return said | {KEPT: f"blob:sha256/{sha256}"}


def _question(call: Call, spec: ModelSpec, request: ChatRequest) -> Question:
    """Bound the answer's tokens where money was reserved for them; else leave the bound to the endpoint."""
    bound = {"max_tokens": request.output_tokens(spec.max_output_tokens)} if call.args.get("bounded") else {}
    form = request.response_format.model_dump(mode="json") if request.response_format and request.wants_json else None
    left = call.remaining_seconds()
    seconds = min(spec.timeout_seconds, max(left - 0.5, left * 0.8))  # leaves time to say that it was too late
    return Question(request.messages, call.key, seconds, request.parameters() | bound, form)


def _answer(completion: dict[str, Any], spec: ModelSpec, request: ChatRequest) -> Answer:
    content = content_of(completion, wants_json=request.wants_json)
    tokens = tokens_of(completion)
    if tokens is None:  # the endpoint does not count: what was reserved is what is settled
        sent, received = 0, 0
        cost = worst_case(spec.price, request.messages, request.output_tokens(spec.max_output_tokens))
    else:
        sent, received = tokens
        cost = cost_of(spec.price, sent, received)
    reason = completion["choices"][0].get("finish_reason")
    return Answer(
        content=content,
        finish_reason=reason if isinstance(reason, str) else "stop",
        model=spec.name,
        tier=spec.tier,
        prompt_tokens=sent,
        completion_tokens=received,
        cost_microusd=cost,
    )


def _wait(problems: list[Problem], pause: float) -> float | None:
    """Give the seconds until the next round, None if no model will do better then."""
    waits = [problem.retry_after for problem in problems if isinstance(problem, TransientError)]
    if not waits or all(isinstance(problem, ModelRefused | DeadlineExceeded) for problem in problems):
        return None
    asked = [wait for wait in waits if wait is not None]
    return min(asked) if len(asked) == len(waits) else random.uniform(pause / 2, pause)  # noqa: S311  # jitter


def _nobody_there(problems: Sequence[Problem]) -> bool:
    return all(isinstance(problem, ModelRefused) or isinstance(problem.__cause__, ConnectionError | OSError)
               for problem in problems)  # fmt: skip


def _told(problems: list[Problem], *, final: bool = False) -> ErrorInfo:
    """Say what every model answered, in the words of the error table; `final` if asking again is no use."""
    message = "; ".join(dict.fromkeys(str(problem) for problem in problems)) or "no model could be asked"
    passing = [] if final else [problem for problem in problems if isinstance(problem, TransientError)]
    limited = [problem for problem in passing if isinstance(problem, RateLimited)]
    code = "rate_limited" if limited and len(limited) == len(passing) else "model_unavailable"
    waits = [problem.retry_after for problem in passing if problem.retry_after is not None]
    return ErrorInfo(
        code=code,
        message=message[:2_000],
        retryable=bool(passing),
        hint="try again later" if passing else "check endpoint, key and model name with `raa model test`",
        details={"retry_after_seconds": min(waits)} if waits else {},
    )
