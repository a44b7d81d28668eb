"""Reads the planner's own stored tasks."""

from typing import Final, cast

from raa_planner.domain.task import REFLECTED_AT, Task
from raa_runtime.scope import TenantScope
from raa_runtime.state.reader import AggregateReader
from raa_schemas.ids import TenantId, task_aggregate

NEWEST_KEPT: Final = 3


class StoredTasks:
    """The collection `task`, of whichever planner wrote it; bound once the service that opens the store exists."""

    def __init__(self) -> None:
        self._reader: AggregateReader | None = None

    def bind(self, reader: AggregateReader) -> None:
        """Set the store to read from."""
        self._reader = reader

    @property
    def _store(self) -> AggregateReader:
        if self._reader is None:
            raise RuntimeError("StoredTasks is read before app.build bound it to the service's store")
        return self._reader

    async def newest(self, tenant: str) -> list[str]:
        """Give the last reflection of each of the tasks reflected on most recently."""
        tasks = await self._store.newest(TenantScope(TenantId(tenant)), REFLECTED_AT, NEWEST_KEPT)
        return [task.state.reflections[-1] for task in tasks if task.state.reflections]

    async def find(self, tenant: TenantId, task_id: str) -> Task | None:
        """Find a task's state."""
        found = await self._store.find(TenantScope(tenant), task_aggregate(tenant, task_id))
        return cast("Task", found.state) if found else None
