"""`raa up` waits for what comes by waiting, and only for that."""

import logging
import time
from typing import Any, cast

import pytest

from raa_cli.stack import Stack
from raa_cli.up import until_ready
from raa_runtime.errors import DependencyUnavailable, Misconfigured, RaaError

pytestmark = pytest.mark.anyio


class SlowToStart:
    """A stack that tells a few problems before it is ready."""

    def __init__(self, *problems: RaaError) -> None:
        self.problems = list(problems)

    async def ready(self) -> None:
        if self.problems:
            raise self.problems.pop(0)

    async def missing(self) -> dict[str, Any]:
        return {"planner": {"router": "does not answer"}}


def stack(*problems: RaaError) -> Stack:
    return cast("Stack", SlowToStart(*problems))


async def test_a_stack_too_busy_to_answer_is_waited_for_and_named(caplog: pytest.LogCaptureFixture):
    busy = DependencyUnavailable("not ready after 30 s")
    with caplog.at_level(logging.WARNING):
        await until_ready(stack(busy, busy), time.monotonic())
    assert len(caplog.records) == 2
    assert all("planner" in record.getMessage() for record in caplog.records)


async def test_wrong_settings_are_not_waited_for():
    with pytest.raises(Misconfigured, match="not durable"):
        await until_ready(stack(Misconfigured("the topic is not durable")), time.monotonic())
