"""What memory's routes need: the lessons of a tenant, as fresh as was asked for."""

from typing import Protocol

from raa_runtime.scope import TenantScope
from raa_schemas.recall import KnownLesson, RecallAnswer, RecallRequest


class LessonBook(Protocol):
    """The lessons of all tenants, one tenant at a time."""

    async def recall(self, scope: TenantScope, request: RecallRequest) -> RecallAnswer:
        """Choose lessons; `stale` when reflections named in `after` are not known in time. DependencyUnavailable."""

    async def lessons(self, scope: TenantScope) -> list[KnownLesson]:
        """List all lessons, most recently confirmed first."""

    async def find(self, scope: TenantScope, lesson_id: str) -> KnownLesson | None:
        """Give one lesson with its evidence."""
