"""The command `raa topics grow` on an embedded bus: what forbids it, what it does, and what holds afterwards."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.folder_lock import FolderLock
from raa_runtime.settings import ServiceSettings
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_schemas.task import TaskCreated
from tests.unit.cli.test_command import Called, raa, stack  # noqa: F401  # fixtures

Raa = Callable[..., Called]


def _left_behind(folder: Path, tasks: int) -> None:
    """A data folder as a stack that was killed leaves it: records that nobody has read."""

    async def publish() -> None:
        bus = EmbeddedBus(folder)
        await bus.start()
        await bus.apply_topics(topic_specs(ServiceSettings()))
        goal = 'use calculate with expression="6 * 7"'
        await bus.publish([message_of(TaskCreated(task_id=f"t{n}", goal=goal)) for n in range(tasks)])
        await bus.stop()

    with FolderLock(folder):
        asyncio.run(publish())


def _partitions(raa: Raa) -> dict[str, int]:  # noqa: F811
    return {row["topic"]: row["partitions"] for row in raa("topics", "list", "--json").lines}


def test_topics_do_not_grow_under_a_stack_that_runs(raa: Raa, stack: Any):  # noqa: F811
    refused = raa("topics", "grow", "--partitions", 12)
    assert refused.code == 1
    assert f"(pid {stack.pid}), and keys must not move under it; stop it, then grow" in refused.err
    assert _partitions(raa)["task.created"] == 6


def test_topics_do_not_grow_while_records_are_unread(raa: Raa, data_folder: Path):  # noqa: F811
    _left_behind(data_folder / "d", 9)
    refused = raa("topics", "grow", "--partitions", 12)
    assert refused.code == 1
    assert "has 9 unread records in task.created (and 1 more, see `raa lag`)" in refused.err
    assert "--drain" in refused.err
    assert _partitions(raa)["task.created"] == 6


def test_what_waits_is_worked_off_first_and_then_all_topics_of_events_grow(raa: Raa, data_folder: Path):  # noqa: F811
    _left_behind(data_folder / "d", 9)
    grown = raa("topics", "grow", "--partitions", 12, "--drain", "--json")
    assert grown.code == 0, grown.err
    assert grown.json["grown"]["task.created"] == {"before": 6, "after": 12}
    assert grown.json["written_meanwhile"] == []
    there = _partitions(raa)
    assert there["task.created"] == there["step.done"] == 12
    assert there["planner.dlq"] == 1, "dead letters are not placed by task"
    done = raa("topics", "tail", "task.done", "--from-beginning", "--no-follow", "--json").lines
    assert {event["task_id"] for event in done} == {f"t{n}" for n in range(9)}
    assert raa("run", 'use calculate with expression="6 * 7"').code == 0
    again = raa("topics", "grow", "--partitions", 12, "--drain")
    assert again.out.strip() == "all topics of events have 12 partitions"


def test_partitions_cannot_be_taken_away_and_a_dry_run_changes_nothing(raa: Raa, data_folder: Path):  # noqa: F811
    _left_behind(data_folder / "d", 0)
    assert "cannot be taken away" in raa("topics", "grow", "--partitions", 3).err
    tried = raa("topics", "grow", "--partitions", 12, "--dry-run")
    assert tried.code == 0
    assert "would get 12 partitions (6 now)" in tried.out
    assert _partitions(raa)["task.created"] == 6
