"""The command `raa lag`: what waits on the bus and inside the services, and what nobody could be asked about."""

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raa_cli.gauges import gauges_of
from raa_cli.lag import Situation, duration, print_situation
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.folder_lock import FolderLock
from raa_runtime.http import HttpServer, listen
from raa_runtime.settings import ServiceSettings
from raa_runtime.telemetry import Metrics
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
        await bus.publish([message_of(TaskCreated(task_id=f"t{n}", goal="count")) for n in range(tasks)])
        await bus.stop()

    with FolderLock(folder):
        asyncio.run(publish())


def test_what_a_stopped_stack_left_is_shown_as_lag_with_its_age(raa: Raa, data_folder: Path):  # noqa: F811
    _left_behind(data_folder / "d", 5)
    said = raa("lag", "--json").json
    waiting = [row for row in said["partitions"] if row["lag"]]
    assert {row["group"] for row in waiting} == {"planner", "reflector"}
    assert {row["topic"] for row in waiting} == {"task.created"}
    assert sum(row["lag"] for row in waiting if row["group"] == "planner") == 5
    assert all(0 <= row["oldest_seconds"] < 60 and row["committed"] is None for row in waiting)
    assert said["planner"] == {"queue_depth": None, "queue_oldest_seconds": None}, "nobody was there to be asked"
    text = raa("lag")
    assert text.code == 0
    assert "no member reads for planner, executor, reflector, memory, safety" in text.out
    assert "no stack runs" in text.out


def test_a_running_stack_tells_its_queue_its_steps_and_its_members(raa: Raa, stack: Any):  # noqa: F811
    assert raa("run", "what is 6 * 7").code == 0
    said = raa("lag", "--json").json
    assert set(said["members"].values()) == {1}
    assert said["planner"]["queue_depth"] == 0
    assert said["executor"] == {"steps_ready": 0, "steps_running": 0}
    assert [one["problem"] for one in said["asked"]] == [None] * 6
    assert [row for row in said["partitions"] if row["in_flight"] is None or row["deferred"] is None] == []
    only = raa("lag", "--group", "memory", "--json").json
    assert {row["topic"] for row in only["partitions"]} == {"reflection.done"}
    names = raa("lag", "--group", "planer").err.partition("there are ")[2].strip().split(", ")
    assert len(names) == len(set(names)), "each group is named once"


def test_an_unknown_group_is_named_with_those_there_are(raa: Raa, data_folder: Path):  # noqa: F811
    _left_behind(data_folder / "d", 1)
    refused = raa("lag", "--group", "planer")
    assert refused.code == 2
    assert "there is no group 'planer'; there are planner, executor" in refused.err


@pytest.mark.anyio
async def test_instances_are_summed_and_one_that_does_not_answer_is_said(capsys: pytest.CaptureFixture[str]):
    servers = [_instance(f"planner-{number}", depth) for number, depth in enumerate((3, 4))]
    for server in servers:
        await server.start()
    silent = socket.create_server(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{silent.getsockname()[1]}"
    gauges = await gauges_of({}, ServiceSettings(bus="kafka"), [*(server.url for server in servers), nobody])
    for server in servers:
        await server.stop()
    silent.close()
    now = Situation(datetime.now(UTC), [], {"planner": 3}, gauges)
    assert now.to_json()["planner"]["queue_depth"] == 7
    assert [one.instance for one in gauges] == ["planner-0", "planner-1", ""]
    assert [one.problem is None for one in gauges] == [True, True, False]
    print_situation(now, everything=False)
    said = capsys.readouterr().out
    assert "planner: 7 tasks wait" in said
    assert f"not reached: a service at {nobody}" in said


def _instance(name: str, depth: int) -> HttpServer:
    metrics = Metrics()
    metrics.gauge("raa_planner_queue_depth_tasks", "depth").set(depth)
    metrics.gauge("raa_planner_queue_oldest_seconds", "age").set(depth)
    metrics.gauge("raa_service_info", "1", ("service", "instance")).labels("planner", name).set(1)
    return HttpServer("planner", listen("127.0.0.1", 0), None, metrics, dict, {})


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0.0 s"), (119, "119.0 s"), (120, "2 min"), (9000, "2 h"), (200_000, "2 d")]
)
def test_an_age_is_said_in_its_largest_unit(seconds: float, said: str):
    assert duration(seconds) == said
