"""The router's HTTP routes, in the form of OpenAI: chat completions and the list of models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Protocol
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from raa_router.domain.asking import Asked, Standing, ask
from raa_router.domain.catalogue import Catalogue, ModelSpec, UnknownModelError, choose_model
from raa_router.domain.chat import CHAT, Answer, BudgetExhaustedError, Chat, KeyConflictError, completion
from raa_router.domain.money import worst_case
from raa_router.domain.request import MAX_REQUEST_BYTES, ChatRequest
from raa_router.metrics import RouterMetrics
from raa_runtime.clock import Clock
from raa_runtime.errors import PermanentError, TransientError
from raa_runtime.scope import TenantScope
from raa_runtime.service import Service
from raa_schemas.canonical import digest, digest_bytes
from raa_schemas.errors import CODES, ErrorInfo
from raa_schemas.event import parse_instant
from raa_schemas.ids import DEFAULT_TENANT, TENANT_PATTERN, TenantId, is_task_id, is_tenant_id

# An answer that another instance writes is only seen by looking again; looking costs a read, and thousands may wait.
_FIRST_LOOK_SECONDS: Final = 2.0
_LAST_LOOK_SECONDS: Final = 30.0
_STATUS: Final = {"rate_limited": 429, "budget_exhausted": 402, "conflict": 409, "too_large": 413, "unknown_model": 404}
_MAX_KEY: Final = 256
Waiting = Callable[[str, str], list[str]]


_LATE: Final = ErrorInfo(
    code="model_unavailable",
    message="no answer by the deadline of the request",
    retryable=True,
    hint="send it again with the same idempotency key: the call may still end",
)


class BadRequestError(Exception):
    """The request cannot be used as it is."""

    def __init__(self, message: str, code: str = "bad_request") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Context:
    """What the headers say."""

    tenant: str
    task_id: str
    for_task: bool
    purpose: str
    key: str
    budget_microusd: int | None
    seconds: float


class AnswerCache(Protocol):
    """Answers that the store holds too; it may forget any of them, and never raises for being away."""

    async def find(self, scope: TenantScope, key: str, digest: str) -> Answer | None:
        """Give the answer to the request of this digest, None if it is not here."""
        ...

    async def put(self, scope: TenantScope, key: str, digest: str, answer: Answer) -> None:
        """Keep an answer."""
        ...


class ChatDesk:
    """Serves one request: chooses models, reserves money, starts or joins the call, waits for its end."""

    def __init__(
        self,
        service: Callable[[], Service],
        catalogue: Catalogue,
        clock: Clock,
        metrics: RouterMetrics,
        *,
        request_seconds: float,
        refuse_unpriced: bool,
        cache: AnswerCache | None = None,
    ) -> None:
        self._service = service
        self._catalogue = catalogue
        self._clock = clock
        self._metrics = metrics
        self._request_seconds = request_seconds
        self._refuse_unpriced = refuse_unpriced
        self._cache = cache

    async def serve(self, request: ChatRequest, context: Context) -> dict[str, Any] | ErrorInfo:
        """Return the completion, or what went wrong; the same key and request get the same answer."""
        asked = self._asked(request, context)
        aggregate = f"{context.tenant}/{digest_bytes(context.key.encode()).removeprefix('sha256:')[:40]}"
        settled, standing = await self._found_or_settled(aggregate, asked, context)
        self._metrics.requests.labels(standing if isinstance(settled, Answer) else "failed").inc()
        if isinstance(settled, ErrorInfo):
            return settled
        name, now = f"chatcmpl-{aggregate.partition('/')[2]}", int(self._clock.now().timestamp())
        return completion(settled, name, asked.digest, now, cached=standing == "replayed")

    async def _found_or_settled(
        self, aggregate: str, asked: Asked, context: Context
    ) -> tuple[Answer | ErrorInfo, Standing]:
        if self._cache is None:
            return await self._settled(aggregate, asked, context.seconds)
        scope = TenantScope(TenantId(context.tenant))
        if (answer := await self._cache.find(scope, aggregate, asked.digest)) is not None:
            return answer, "replayed"
        settled, standing = await self._settled(aggregate, asked, context.seconds)
        if isinstance(settled, Answer):
            await self._cache.put(scope, aggregate, asked.digest, settled)
        return settled, standing

    async def _settled(self, aggregate: str, asked: Asked, seconds: float) -> tuple[Answer | ErrorInfo, Standing]:
        """Wait for the end of the call, and say how the request stood when it came."""
        service, deadline = self._service(), self._clock.monotonic() + seconds
        standing: Standing | None = None
        pause = _FIRST_LOOK_SECONDS
        while True:
            left = deadline - self._clock.monotonic()
            look = max(min(left, pause), 0.05)
            try:
                settled: Answer | ErrorInfo = await service.call_and_wait(CHAT, aggregate, ask, asked, _settled, look)
                return settled, standing or asked.standing
            except TimeoutError:
                standing, asked.again = standing or asked.standing, True
                if left <= pause:
                    return _LATE, standing
                pause = min(pause * 2, _LAST_LOOK_SECONDS)

    def _asked(self, request: ChatRequest, context: Context) -> Asked:
        chosen = choose_model(self._catalogue, request.model)
        affordable, shortfall = self._affordable(chosen, request, context.budget_microusd)
        return Asked(
            request=request.model_dump(mode="json", exclude={"stream"}, exclude_none=True),
            digest=request.digest,
            task_id=context.task_id,
            purpose=context.purpose,
            models=[spec.name for spec in affordable],
            timeout=timedelta(seconds=context.seconds),
            bounded=context.budget_microusd is not None,
            shortfall=shortfall,
            for_task=context.for_task,
        )

    def _affordable(
        self, chosen: Sequence[ModelSpec], request: ChatRequest, budget: int | None
    ) -> tuple[list[ModelSpec], str]:
        """Keep the models whose worst case the budget covers, and say what the cheapest of the others would need."""
        if budget is None:
            return list(chosen), ""
        kept: list[ModelSpec] = []
        needs: list[str] = []
        for spec in chosen:
            need = worst_case(spec.price, request.messages, request.output_tokens(spec.max_output_tokens))
            if (need is None and not self._refuse_unpriced and budget > 0) or (need is not None and need <= budget):
                kept.append(spec)
            else:
                amount = "has no known price" if need is None else f"may cost up to {need} micro-USD"
                needs.append(f"{spec.name} {amount}")
        return kept, f"{budget} micro-USD are left, and {', '.join(needs)}; raise budget_usd or use a cheaper model"


def routes(desk: ChatDesk, catalogue: Catalogue, clock: Clock, request_seconds: float, waiting: Waiting) -> APIRouter:
    """Build the routes; `waiting` says which endpoints a tenant's task waits for in this process."""
    router = APIRouter(prefix="/v1")
    body = {"application/json": {"schema": ChatRequest.model_json_schema()}}

    @router.post("/chat/completions", openapi_extra={"requestBody": {"required": True, "content": body}})
    async def chat_completions(request: Request) -> JSONResponse:
        """Answer a chat; the header idempotency-key makes sending it again safe."""
        try:
            context = _context(request, clock.now(), request_seconds)
            said = await desk.serve(_body(await request.body()), context)
        except (BadRequestError, KeyConflictError, BudgetExhaustedError, UnknownModelError, PermanentError) as problem:
            said = _refusal(problem)
        except TransientError as problem:
            said = ErrorInfo(code="model_unavailable", message=str(problem), retryable=True, hint="try again later")
        return JSONResponse(said) if isinstance(said, dict) else _failed(said)

    @router.get("/tasks/{task_id}/waiting")
    async def waiting_for(
        task_id: str, x_raa_tenant: Annotated[str, Header(pattern=TENANT_PATTERN)] = DEFAULT_TENANT
    ) -> dict[str, list[str]]:
        """Say which endpoints a task waits for now, and how each failed last; of this instance only."""
        return {"waiting_for": waiting(x_raa_tenant, task_id)}

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """List the configured models; `default` marks the one that requests without a choice get."""
        listed = [_listed(spec, default=spec.name == catalogue.default) for spec in catalogue.models.values()]
        return {"object": "list", "data": listed}

    return router


def _settled(chat: Chat) -> Answer | ErrorInfo | None:
    return chat.settled


def _listed(spec: ModelSpec, *, default: bool) -> dict[str, Any]:
    price = spec.price.model_dump() if spec.price else None
    own = {"tier": spec.tier, "protocol": spec.protocol, "default": default, "price": price, "base_url": spec.base_url,
           "fallbacks": list(spec.fallbacks)}  # fmt: skip
    return {"id": spec.name, "object": "model", "owned_by": "raa", "raa": own}


def _body(content: bytes) -> ChatRequest:
    if len(content) > MAX_REQUEST_BYTES:
        raise BadRequestError(
            f"the request has {len(content)} bytes, at most {MAX_REQUEST_BYTES} are taken", "too_large"
        )
    try:
        request = ChatRequest.model_validate_json(content)
        request.digest  # noqa: B018  # a number that JSON has no word for must fail here
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        raise BadRequestError(f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}") from None
    except (ValueError, RecursionError) as odd:
        raise BadRequestError(f"the request is no plain JSON: {odd}") from None
    if request.stream:
        raise BadRequestError("streaming is not offered; send stream: false")
    return request


def _context(request: Request, now: datetime, request_seconds: float) -> Context:
    headers = request.headers
    tenant = headers.get("x-raa-tenant") or DEFAULT_TENANT
    if not is_tenant_id(tenant):
        raise BadRequestError(f"{tenant[:80]!r} is no tenant; use a-z, 0-9, _ and -")
    key = headers.get("idempotency-key") or uuid4().hex
    if len(key) > _MAX_KEY:
        raise BadRequestError(f"the idempotency key has {len(key)} characters, at most {_MAX_KEY} are taken")
    named = headers.get("x-raa-task")
    task = named or f"chat-{digest([tenant, key]).removeprefix('sha256:')[:20]}"
    if not is_task_id(task):
        raise BadRequestError(f"x-raa-task {task[:80]!r} is no task id")
    purpose = headers.get("x-raa-purpose", "")[:64]
    return Context(tenant, task, bool(named), purpose, key, _budget(headers.get("x-raa-budget-microusd")),
                   _seconds(headers.get("x-raa-deadline"), now, request_seconds))  # fmt: skip


def _budget(written: str | None) -> int | None:
    if written is None:
        return None
    if not written.isdecimal() or len(written) > 18:
        raise BadRequestError("x-raa-budget-microusd must be a whole number of micro-USD")
    return int(written)


def _seconds(written: str | None, now: datetime, request_seconds: float) -> float:
    if written is None:
        return request_seconds
    try:
        left = (parse_instant(written) - now).total_seconds()
    except ValueError as odd:
        raise BadRequestError(f"x-raa-deadline: {odd}") from None
    if left <= 0:
        raise BadRequestError("x-raa-deadline has passed", "deadline_exceeded")
    return left


def _refusal(problem: Exception) -> ErrorInfo:
    codes = {KeyConflictError: "conflict", BudgetExhaustedError: "budget_exhausted", UnknownModelError: "unknown_model"}
    code = problem.code if isinstance(problem, BadRequestError) else codes.get(type(problem), "bad_request")
    known = CODES.get(code)
    return ErrorInfo(code=code, message=str(problem), hint=known.hint if known else None)


def _failed(problem: ErrorInfo) -> JSONResponse:
    """Write an error in the form of OpenAI; 503 may be sent again, 424 says that a model refused for good."""
    passing = 503 if problem.retryable else 424 if problem.code == "model_unavailable" else 400
    status = _STATUS.get(problem.code, passing)
    body = {"code": problem.code, "message": problem.message, "retryable": problem.retryable, "hint": problem.hint,
            "type": "raa_error", "param": None}  # fmt: skip
    wait = problem.details.get("retry_after_seconds", 1)
    headers = {"retry-after": str(max(1, round(wait)))} if status in {429, 503} else {}
    return JSONResponse({"error": body}, status_code=status, headers=headers)
