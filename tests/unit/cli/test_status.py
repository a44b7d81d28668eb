"""What `raa status` says of a task that waits, read from a data folder that no stack runs on."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.folder_lock import FolderLock
from raa_runtime.settings import ServiceSettings
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_schemas.event import Event
from raa_schemas.task import TaskDone, TaskStatus
from tests.unit.cli.test_command import Called, raa  # noqa: F401  # a fixture

Raa = Callable[..., Called]
NOON = datetime(2026, 1, 2, 12, 0, 5, tzinfo=UTC)
STALLED = TaskStatus(task_id="t1", state="stalled", waiting_for="a redrive of step.done", waiting_until=NOON)


def keep(folder: Path, *events: Event) -> None:
    """Leave a data folder with these events."""

    async def publish() -> None:
        bus = EmbeddedBus(folder)
        await bus.start()
        await bus.apply_topics(topic_specs(ServiceSettings.from_env({})))
        assert await bus.publish([message_of(event) for event in events]) == [None] * len(events)
        await bus.stop()

    with FolderLock(folder):
        asyncio.run(publish())


def test_a_stalled_task_says_what_it_waits_for_and_until_when(raa: Raa, data_folder: Path):  # noqa: F811
    keep(data_folder / "d", STALLED)
    told = raa("status", "t1").out
    assert told.startswith("t1 stalled\n  waits for a redrive of step.done\n  until     2026-01-02 12:00:05 UTC\n")
    assert raa("status", "t1", "--json").json["waiting_until"] == "2026-01-02T12:00:05+00:00"


@pytest.mark.parametrize(
    "next_one", [TaskDone(task_id="t1", outcome="failed"), TaskStatus(task_id="t1", state="running")]
)
def test_a_task_that_waits_no_more_names_no_time(raa: Raa, data_folder: Path, next_one: Event):  # noqa: F811
    keep(data_folder / "d", STALLED, next_one)
    said = raa("status", "t1", "--json").json
    assert (said["waiting_for"], said["waiting_until"]) == (None, None)
