"""Two commits of one consumer under way at once: the group's offset never goes back."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from raa_runtime.bus.port import TopicPartition
from raa_runtime.clock import SystemClock
from raa_runtime.consumer import Consumer
from raa_runtime.lanes import Lanes
from raa_runtime.telemetry import logger
from raa_runtime.watermark import Watermark

pytestmark = pytest.mark.anyio
PLACE = TopicPartition("task.created", 0)


class Member:
    """A client that tries a commit again while the group's coordinator moves, as aiokafka does."""

    def __init__(self) -> None:
        self.group: dict[TopicPartition, int] = {}
        self.moved = asyncio.Event()
        self.calls = 0

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.calls += 1
        if self.calls == 1:
            await self.moved.wait()
        self.group |= offsets


async def test_a_commit_that_is_tried_again_does_not_undo_a_later_one():
    unused: Any = None
    consumer = Consumer(unused, "planner", [], unused, Lanes(), unused, unused, unused, unused, 10, SystemClock(),
                        logger("planner"))  # fmt: skip
    member: Any = Member()
    consumer._subscription = member
    mark = consumer._marks[PLACE] = Watermark()
    for offset in range(5):
        mark.take(offset)
    mark.settle(0)
    first = asyncio.create_task(consumer.commit([PLACE]))
    await asyncio.sleep(0)
    for offset in range(1, 5):
        mark.settle(offset)
    revoked = asyncio.create_task(consumer.revoked([PLACE]))
    await asyncio.sleep(0)
    member.moved.set()
    await asyncio.gather(first, revoked)
    assert member.group == {PLACE: 5}
