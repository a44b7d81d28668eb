"""A reader of the embedded bus between the moment a record is on disk and the moment it is in memory."""

from pathlib import Path
from typing import Any

import pytest

from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.settings import ServiceSettings
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_schemas.task import TaskCreated


class Member:
    async def assigned(self, places: Any) -> None:
        """Take what is dealt."""

    async def revoked(self, places: Any) -> None:
        """Give it back."""


@pytest.mark.anyio
async def test_a_record_that_is_on_disk_and_not_yet_in_memory_is_read_and_never_stepped_over(tmp_path: Path) -> None:
    bus = EmbeddedBus(tmp_path)
    await bus.start()
    await bus.apply_topics(topic_specs(ServiceSettings.from_env({}, data=tmp_path)))
    same = [message_of(TaskCreated(task_id="t1", goal="what is 1 + 1"), event_id=str(number)) for number in range(2)]
    reader = await bus.subscribe("somebody", ["task.created"], Member())
    await bus.publish(same[:1])
    assert [record.offset for record in await reader.poll(10, 1)] == [0]
    bus._log.write(same[1:], {})  # what the writer's thread does before the loop hears of it
    assert [record.offset for record in await reader.poll(10, 0)] == [1]
    await reader.close()
    await bus.stop()
