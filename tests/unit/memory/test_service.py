"""Memory as a whole, on an embedded bus and store of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from raa_memory.app import build
from raa_memory.settings import MemorySettings
from raa_runtime.service import Service
from raa_runtime.testing import message_of, running
from raa_schemas.recall import KnownLesson, KnownLessons, RecallAnswer, RecallRequest
from raa_schemas.reflection import Lesson
from tests.unit.memory.lessons import lesson, reflection, request

ASKED = request(("x.csv", "aa", "sch_a"))


async def ready(service: Service) -> None:
    async with asyncio.timeout(10):
        while await service.missing():  # noqa: ASYNC110  # readiness is asked for, as an orchestrator would
            await asyncio.sleep(0.01)


async def learn(
    service: Service,
    *lessons: Lesson,
    tenant: str = "default",
    task: str = "t1",
    event_id: str = "ref-1",
    **changed: Any,
) -> None:
    message = message_of(reflection(*lessons, task=task, **changed).data, tenant=tenant, event_id=event_id)
    assert await service.platform.bus.publish([message]) == [None]


async def recall(
    service: Service, asked: RecallRequest, tenant: str = "default", after: tuple[str, ...] = ()
) -> RecallAnswer:
    body = asked.model_copy(update={"after": list(after)}).model_dump(mode="json")
    async with service.platform.http.post(
        f"{service.url}/v1/recall", json=body, headers={"x-raa-tenant": tenant}
    ) as answer:
        assert answer.status == 200, await answer.text()
        return RecallAnswer.model_validate_json(await answer.read())


async def get(service: Service, path: str, tenant: str | None = "default") -> tuple[int, bytes]:
    headers = {"x-raa-tenant": tenant} if tenant else {}
    async with service.platform.http.get(service.url + path, headers=headers) as answer:
        return answer.status, await answer.read()


def with_memory(folder: Path, story: Callable[[Service], Awaitable[None]], **settings: Any) -> None:
    async def told() -> None:
        async with running(build, MemorySettings, folder, **settings) as service:
            await ready(service)
            await story(service)

    asyncio.run(told())


def test_a_recall_waits_for_the_reflection_it_names(data_folder: Path):
    async def story(service: Service) -> None:
        asking = asyncio.create_task(recall(service, ASKED, after=("ref-1",)))
        await learn(service, lesson())
        answer = await asking
        assert ([one.lesson.id for one in answer.lessons], answer.stale) == ([lesson().id], False)

    with_memory(data_folder, story, recall_patience_seconds=5)


def test_a_reflection_that_does_not_come_makes_the_answer_stale(data_folder: Path):
    async def story(service: Service) -> None:
        await learn(service, lesson())
        assert not (await recall(service, ASKED, after=("ref-1",))).stale
        answer = await recall(service, ASKED, after=("ref-1", "ref-lost"))
        assert ([one.lesson.id for one in answer.lessons], answer.stale) == ([lesson().id], True)

    with_memory(data_folder, story)


def test_a_reflection_that_taught_nothing_does_not_make_the_answer_stale(data_folder: Path):
    async def story(service: Service) -> None:
        await learn(service, lesson(), memory="off")
        answer = await recall(service, ASKED, after=("ref-1",))
        assert (answer.lessons, answer.stale) == ([], False)

    with_memory(data_folder, story, recall_patience_seconds=5)


def test_no_tenant_is_shown_what_another_has_learned(data_folder: Path):
    async def story(service: Service) -> None:
        await learn(service, lesson(), tenant="acme")
        assert (await recall(service, ASKED, "acme", ("ref-1",))).lessons != []
        assert (await recall(service, ASKED, "other")).lessons == []
        assert KnownLessons.model_validate_json((await get(service, "/v1/lessons", "other"))[1]).lessons == []
        assert (await get(service, f"/v1/lessons/{lesson().id}", "other"))[0] == 404
        assert (await get(service, "/v1/lessons", None))[0] == 422
        assert (await get(service, "/v1/lessons", "../acme"))[0] == 422

    with_memory(data_folder, story)


def test_lessons_are_listed_with_their_support_and_survive_a_restart(data_folder: Path):
    async def first(service: Service) -> None:
        await learn(service, lesson(), task="t1")
        await learn(service, lesson(), task="t2", event_id="ref-2")
        await recall(service, ASKED, after=("ref-1", "ref-2"))

    async def second(service: Service) -> None:
        known = KnownLessons.model_validate_json((await get(service, "/v1/lessons"))[1]).lessons
        assert [(one.lesson.id, one.lesson.state, one.tasks, one.support) for one in known] == [
            (lesson().id, "trial", 2, [])
        ]
        found = KnownLesson.model_validate_json((await get(service, f"/v1/lessons/{lesson().id}"))[1])
        assert {one.task_id: one.reflection for one in found.support} == {"t1": "ref-1", "t2": "ref-2"}
        assert found.support[0].evidence.fixed == ["v2/a"]

    with_memory(data_folder, first, recall_patience_seconds=5)
    with_memory(data_folder, second)


def test_it_is_ready_only_when_it_has_handled_what_lay_there_at_its_start(data_folder: Path):
    async def told() -> None:
        async with running(build, MemorySettings, data_folder / "a") as service:
            await ready(service)
        async with running(build, MemorySettings, data_folder / "a") as service:
            for number in range(20):
                await learn(service, lesson(), task=f"t{number}", event_id=f"ref-{number}")
        async with running(build, MemorySettings, data_folder / "a") as service:
            await ready(service)
            answer = await recall(service, ASKED, after=tuple(f"ref-{number}" for number in range(20)))
            assert not answer.stale

    asyncio.run(told())


def test_a_lesson_of_an_unknown_kind_costs_no_dead_letter(data_folder: Path):
    async def story(service: Service) -> None:
        await learn(service, lesson(kind="dance"), lesson())
        answer = await recall(service, ASKED, after=("ref-1",))
        assert [one.lesson.kind for one in answer.lessons] == ["recover"]

    with_memory(data_folder, story, recall_patience_seconds=5)


@pytest.mark.parametrize("body", [{}, {"task": "t", "goal": "g", "limit": 0}, []])
def test_a_malformed_recall_is_refused(data_folder: Path, body: Any):
    async def story(service: Service) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{service.url}/v1/recall", json=body, headers={"x-raa-tenant": "default"}) as answer,
        ):
            assert answer.status == 422

    with_memory(data_folder, story)
