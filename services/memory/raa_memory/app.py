"""The composition root of memory: the only place that builds its lesson book and its service."""

from typing import Any

from raa_memory import api, handlers
from raa_memory.adapters.store_lesson_book import StoreLessonBook
from raa_memory.domain.episode import EPISODE, LEARNED
from raa_memory.metrics import MemoryMetrics, observer
from raa_memory.settings import MemorySettings
from raa_runtime.platform import Platform
from raa_runtime.scope import TenantScope
from raa_runtime.service import On, Service
from raa_runtime.state.aggregate import Aggregate
from raa_runtime.telemetry import Metrics
from raa_schemas.reflection import ReflectionDone


def build(settings: MemorySettings, platform: Platform) -> Service:
    """Wire memory."""
    registry = Metrics()
    metrics = MemoryMetrics(registry)

    async def scan(scope: TenantScope, since: float | None) -> list[Aggregate[Any]]:
        return await service.store(EPISODE).scan(scope, LEARNED, since)

    async def caught_up() -> None:
        await service.caught_up()

    book = StoreLessonBook(
        scan,
        platform.clock,
        shared=settings.store != "sqlite",  # a SQLite file has one owner
        refresh_seconds=settings.recall_refresh_seconds,
        patience_seconds=settings.recall_patience_seconds,
    )
    service = Service(
        "memory",
        settings,
        platform,
        kinds=[EPISODE],
        on=[On(ReflectionDone, EPISODE, handlers.on_reflection_done)],
        api=api.routes(book, metrics),
        before_ready=[caught_up],
        observers=[book.observe, observer(metrics, platform.logger("memory"))],
        metrics=registry,
    )
    return service
