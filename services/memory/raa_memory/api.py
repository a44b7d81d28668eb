"""Memory's HTTP routes: recall for planners, lessons for people."""

import time
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, HTTPException
from pydantic import ConfigDict

from raa_memory.metrics import MemoryMetrics
from raa_memory.ports import LessonBook
from raa_runtime.errors import TransientError
from raa_runtime.scope import TenantScope
from raa_schemas.ids import TENANT_PATTERN, TenantId
from raa_schemas.recall import KnownLesson, KnownLessons, RecallAnswer, RecallRequest

T = TypeVar("T")
TenantHeader = Annotated[str, Header(alias="x-raa-tenant", pattern=TENANT_PATTERN)]


class RecallBody(RecallRequest):
    """The body of a recall, built at start: FastAPI cannot build a deferred model silently inside a request."""

    model_config = ConfigDict(defer_build=False)


def routes(book: LessonBook, metrics: MemoryMetrics) -> APIRouter:
    """Build the routes; every one of them is about the tenant in the header and no other."""
    router = APIRouter(prefix="/v1")

    @router.post("/recall")
    async def recall(request: RecallBody, x_raa_tenant: TenantHeader) -> RecallAnswer:
        """Choose lessons for a task, with why; waits up to 250 ms for the reflections named in `after`."""
        begun = time.perf_counter()
        answer = await _or_503(book.recall(_scope(x_raa_tenant), request))
        metrics.count(answer, time.perf_counter() - begun)
        return answer

    @router.get("/lessons")
    async def lessons(x_raa_tenant: TenantHeader) -> KnownLessons:
        """List all lessons of the tenant, most recently confirmed first."""
        return KnownLessons(lessons=await _or_503(book.lessons(_scope(x_raa_tenant))))

    @router.get("/lessons/{lesson_id}")
    async def lesson(lesson_id: str, x_raa_tenant: TenantHeader) -> KnownLesson:
        """Give one lesson with the evidence of every task that confirmed it."""
        found = await _or_503(book.find(_scope(x_raa_tenant), lesson_id))
        if found is None:
            raise HTTPException(404, f"this tenant has no lesson {lesson_id[:80]!r}; list them with GET /v1/lessons")
        return found

    return router


def _scope(tenant: str) -> TenantScope:
    return TenantScope(TenantId(tenant))


async def _or_503(work: Awaitable[T]) -> T:
    try:
        return await work
    except TransientError as problem:
        raise HTTPException(503, f"memory's store does not answer: {problem}; plan without it or try again") from None
