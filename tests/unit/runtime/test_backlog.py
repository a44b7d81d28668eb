"""What a service holds of its partitions, as its metrics tell it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raa_runtime.backlog import Backlog
from raa_runtime.bus.port import TopicPartition
from raa_runtime.clock import SystemClock
from raa_runtime.errors import TransientError
from raa_runtime.service import Service
from raa_runtime.state.aggregate import Deferred
from raa_runtime.testing import message_of, unit_for
from raa_runtime.watermark import Watermark
from raa_schemas.task import TaskCreated
from tests.unit.runtime.floor import COUNT, Floor, until

PLACE = TopicPartition("task.created", 2)


def told(service: Service, what: str) -> dict[tuple[str, int], float]:
    """What the metrics say of each partition, where it is not 0."""
    families = text_string_to_metric_families(service.metrics.exposition().decode())
    return {
        (sample.labels["topic"], int(sample.labels["partition"])): sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"raa_planner_partition_{what}" and sample.value
    }


@pytest.mark.anyio
async def test_deferred_events_are_counted_where_they_came_from_until_they_are_handled(tmp_path: Path):
    floor = Floor(tmp_path)
    broken = True
    floor.fail = lambda _: TransientError("the far side is away", retry_after=0.3) if broken else None
    async with floor.running() as service:
        await floor.publish([message_of(TaskCreated(task_id="t1", goal="count"), event_id="e1")])
        await service.caught_up()
        (record,) = await floor.records("task.created")
        assert told(service, "deferred_records") == {(record.topic, record.partition): 1}
        broken = False

        async def empty() -> bool:
            return not told(service, "deferred_records")

        await until(empty)
        assert len(await floor.records("task.status")) == 1


@pytest.mark.anyio
async def test_a_service_names_itself_and_its_instance(tmp_path: Path):
    floor = Floor(tmp_path, instance="planner-1")
    async with floor.running() as service:
        assert 'raa_service_info{deployment="",instance="planner-1",service="planner"} 1.0' in (
            service.metrics.exposition().decode()
        )


def _with_deferred(partition: int | None) -> Any:
    unit = unit_for(COUNT, "default/t1")
    unit.aggregate.partition = partition
    unit.aggregate.deferred.append(Deferred(PLACE.topic, 2, 0, 0.0, None, [], "{}", "e1", 1, 0.0, "away", 0.0))
    return unit


def test_deferred_events_of_a_partition_that_went_away_are_counted_by_whoever_holds_it_now():
    marks = {PLACE: Watermark()}
    backlog = Backlog("planner", lambda: marks, SystemClock())
    backlog.observe(COUNT, _with_deferred(2))
    assert backlog.deferred() == {PLACE: 1}
    del marks[PLACE]
    assert backlog.deferred() == {}
    marks[PLACE] = Watermark()
    assert backlog.deferred() == {}, "it may have been handled elsewhere meanwhile"


def test_an_aggregate_that_anyone_may_wake_counts_everywhere():
    backlog = Backlog("planner", dict, SystemClock())
    backlog.observe(COUNT, _with_deferred(None))
    assert backlog.deferred() == {PLACE: 1}


def test_in_flight_and_oldest_follow_the_watermark():
    mark, long_ago = Watermark(), datetime.now(UTC) - timedelta(minutes=5)
    backlog = Backlog("planner", lambda: {PLACE: mark}, SystemClock())
    mark.take(7, long_ago)
    mark.take(8, long_ago + timedelta(minutes=4))
    in_flight, oldest, _ = backlog.collect()
    assert [sample.value for sample in in_flight.samples] == [2]
    assert 300 <= oldest.samples[0].value < 330
    mark.settle(8)
    assert mark.oldest == long_ago, "what is behind it stays open"
    mark.settle(7)
    in_flight, oldest, _ = backlog.collect()
    assert [sample.value for sample in (*in_flight.samples, *oldest.samples)] == [0, 0]
