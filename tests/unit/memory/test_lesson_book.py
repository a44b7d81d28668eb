"""Several memory instances on one store see each other's lessons."""

import asyncio
from pathlib import Path
from typing import Any

from raa_memory.adapters.store_lesson_book import StoreLessonBook
from raa_memory.app import build
from raa_memory.domain.episode import EPISODE, LEARNED
from raa_memory.settings import MemorySettings
from raa_runtime.clock import SystemClock
from raa_runtime.scope import TenantScope
from raa_runtime.service import Service
from raa_runtime.state.aggregate import Aggregate
from raa_runtime.testing import message_of, running
from raa_schemas.ids import DEFAULT_TENANT
from tests.unit.memory.lessons import lesson, reflection, request

SCOPE = TenantScope(DEFAULT_TENANT)
ASKED = request(("x.csv", "aa", "sch_a"))


class OtherInstance:
    """The lesson book of a second instance: the same store, none of the first one's events."""

    def __init__(self, service: Service, **settings: Any) -> None:
        self.looks: list[float | None] = []
        self._reader = service.store(EPISODE)
        chosen = {"shared": True, "refresh_seconds": 3600.0, "patience_seconds": 5.0} | settings
        self.book = StoreLessonBook(self._scan, SystemClock(), **chosen)

    async def _scan(self, scope: TenantScope, since: float | None) -> list[Aggregate[Any]]:
        self.looks.append(since)
        return await self._reader.scan(scope, LEARNED, since)


async def learn(service: Service, number: int) -> None:
    about = lesson({f"k{number}": 1})
    event = reflection(about, task=f"t{number}").data
    await service.platform.bus.publish([message_of(event, event_id=f"ref-{number}")])


def test_a_recall_finds_the_named_reflection_that_another_instance_handled(data_folder: Path):
    async def told() -> None:
        async with running(build, MemorySettings, data_folder) as service:
            other = OtherInstance(service)
            assert (await other.book.recall(SCOPE, ASKED)).lessons == []
            for number in range(3):
                await learn(service, number)
                named = ASKED.model_copy(update={"after": [f"ref-{number}"]})
                answer = await other.book.recall(SCOPE, named)
                assert (len(answer.lessons), answer.stale) == (number + 1, False)

    asyncio.run(told())


def test_a_recall_that_names_nothing_new_looks_at_the_store_only_now_and_then(data_folder: Path):
    async def told() -> None:
        async with running(build, MemorySettings, data_folder) as service:
            other, eager = OtherInstance(service), OtherInstance(service, refresh_seconds=0.0)
            for _ in range(3):
                await other.book.recall(SCOPE, ASKED)
                await eager.book.recall(SCOPE, ASKED)
            assert (len(other.looks), len(eager.looks)) == (1, 3)

    asyncio.run(told())


def test_later_looks_read_only_what_is_new_and_a_little_before_it(data_folder: Path):
    async def told() -> None:
        async with running(build, MemorySettings, data_folder) as service:
            other = OtherInstance(service)
            await learn(service, 1)
            await other.book.recall(SCOPE, ASKED.model_copy(update={"after": ["ref-1"]}))
            await learn(service, 2)
            await other.book.recall(SCOPE, ASKED.model_copy(update={"after": ["ref-2"]}))
            (first, *_), last = other.looks, other.looks[-1]
            assert first is None
            assert last is not None
            assert last < SystemClock().now().timestamp()

    asyncio.run(told())


def test_recalls_at_the_same_time_load_a_tenant_once(data_folder: Path):
    async def told() -> None:
        async with running(build, MemorySettings, data_folder) as service:
            await learn(service, 1)
            other = OtherInstance(service, shared=False)
            answers = await asyncio.gather(*(other.book.recall(SCOPE, ASKED) for _ in range(5)))
            assert len(other.looks) == 1
            assert len({answer.digest for answer in answers}) == 1

    asyncio.run(told())
