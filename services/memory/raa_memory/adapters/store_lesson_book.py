"""The lessons of each tenant, folded in this process over memory's own store."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from raa_memory.domain.episode import EPISODE, LEARNED
from raa_memory.domain.tenant_memory import TenantMemory, known_lesson
from raa_runtime.clock import Clock
from raa_runtime.scope import TenantScope
from raa_runtime.state.aggregate import Aggregate
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Unit
from raa_schemas.recall import KnownLesson, RecallAnswer, RecallRequest

Scan = Callable[[TenantScope, float | None], Awaitable[list[Aggregate[Any]]]]
OVERLAP_SECONDS: Final = 10.0  # two instances' clocks may differ by 4 s, and a write takes its time
_LOOK_SECONDS: Final = 0.05
_TENANTS_KEPT: Final = 1_000


@dataclass(slots=True)
class _Tenant:
    memory: TenantMemory = field(default_factory=TenantMemory)
    newest: float | None = None
    looked_at: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class StoreLessonBook:
    """Loads a tenant at its first recall; afterwards own writes arrive by `observe`, other instances' by scanning.

    `shared` says whether other instances write to the same store; then it is scanned at most every `refresh_seconds`,
    and at once when a recall names a reflection that is not known here.
    """

    def __init__(
        self, scan: Scan, clock: Clock, *, shared: bool, refresh_seconds: float, patience_seconds: float
    ) -> None:
        self._scan = scan
        self._clock = clock
        self._shared = shared
        self._refresh_seconds = refresh_seconds
        self._patience_seconds = patience_seconds
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def observe(self, kind: Kind[Any], unit: Unit[Any]) -> None:
        """Take in what this process has just stored."""
        if kind is EPISODE and unit.tenant in self._tenants:
            _take(self._tenants[unit.tenant], unit.aggregate)

    async def recall(self, scope: TenantScope, request: RecallRequest) -> RecallAnswer:
        tenant = await self._fresh(scope)
        caught_up = await self._wait_for(scope, tenant, request.after)
        return tenant.memory.index.recall(request, stale=not caught_up)

    async def lessons(self, scope: TenantScope) -> list[KnownLesson]:
        learned = (await self._fresh(scope)).memory.learned.values()
        newest_first = sorted(learned, key=lambda one: (one.confirmed_at, one.lesson.id), reverse=True)
        return [known_lesson(one, with_support=False) for one in newest_first]

    async def find(self, scope: TenantScope, lesson_id: str) -> KnownLesson | None:
        learned = (await self._fresh(scope)).memory.learned.get(lesson_id)
        return known_lesson(learned, with_support=True) if learned else None

    async def _fresh(self, scope: TenantScope) -> _Tenant:
        tenant = self._tenants.setdefault(scope.tenant, _Tenant())
        self._tenants.move_to_end(scope.tenant)
        while len(self._tenants) > _TENANTS_KEPT:
            self._tenants.popitem(last=False)
        if self._is_due(tenant):
            async with tenant.lock:
                if self._is_due(tenant):
                    await self._look(scope, tenant)
        return tenant

    def _is_due(self, tenant: _Tenant) -> bool:
        if tenant.looked_at is None:
            return True
        return self._shared and self._clock.monotonic() - tenant.looked_at >= self._refresh_seconds

    async def _look(self, scope: TenantScope, tenant: _Tenant) -> None:
        begun = self._clock.monotonic()
        since = None if tenant.newest is None else tenant.newest - OVERLAP_SECONDS
        # what `observe` saw before the first look may be newer than what was never loaded
        for aggregate in await self._scan(scope, since if tenant.looked_at is not None else None):
            _take(tenant, aggregate)
        tenant.looked_at = begun

    async def _wait_for(self, scope: TenantScope, tenant: _Tenant, reflections: Collection[str]) -> bool:
        end = self._clock.monotonic() + self._patience_seconds
        while not tenant.memory.knows(reflections):
            left = end - self._clock.monotonic()
            if left <= 0:
                return False
            await _first_of(tenant.changed, min(left, _LOOK_SECONDS) if self._shared else left)
            if self._shared and not tenant.memory.knows(reflections):
                async with tenant.lock:
                    await self._look(scope, tenant)
        return True


async def _first_of(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return


def _take(tenant: _Tenant, aggregate: Aggregate[Any]) -> None:
    mark = aggregate.marks.get(LEARNED)
    if isinstance(mark, float | int):
        tenant.newest = max(mark, tenant.newest or mark)
    if tenant.memory.take(aggregate.id, aggregate.state):
        tenant.changed.set()
        tenant.changed = asyncio.Event()
