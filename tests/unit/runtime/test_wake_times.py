"""The wake property: nothing that has to go on is left without a time at which somebody looks at it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from raa_runtime.state.aggregate import Activity, Aggregate, Deferred, Entry, State
from raa_runtime.state.codec import Kind, decode, encode
from raa_runtime.unit_of_work import ACTIVITY_GRACE_SECONDS, LONGEST_BACKOFF_SECONDS, Cause, wake_time
from raa_schemas.ids import AggregateId

NOW = 1_000_000.0
KIND = Kind("thing", State)
TIMES = st.floats(NOW - 100, NOW + 1000)
CAUSES = st.sampled_from(["event", "completed", "wake", "command"])


def entry(number: int) -> Entry:
    return Entry(f"e{number}", "task.status", "k", [], "{}")


def activity(deadline: float) -> Activity:
    return Activity(f"a{deadline}", "work", {}, "key", "read", "me", 1, deadline, 5.0)


def deferred(due: float) -> Deferred:
    return Deferred("t", 0, 0, NOW, None, [], "{}", "e", 1, due, "why", NOW)


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregate[Any]:
    closed = draw(st.booleans())
    activities = {} if closed else {str(at): activity(at) for at in draw(st.lists(TIMES, max_size=2))}
    return Aggregate(
        AggregateId("default/t1"),
        "default",
        "t1",
        State(),
        0,
        1,
        wake_tries=draw(st.integers(0, 9)),
        quarantined=draw(st.booleans()),
        closed=closed,
        timers={} if closed else {str(at): at for at in draw(st.lists(TIMES, max_size=2))},
        outbox=[entry(number) for number in range(draw(st.integers(0, 2)))],
        activities=activities,
        deferred=[deferred(at) for at in draw(st.lists(TIMES, max_size=2))],
    )


@given(aggregates(), CAUSES)
def test_what_no_redelivery_repeats_is_looked_at_again(aggregate: Aggregate[Any], cause: Cause):
    wake = wake_time(aggregate, cause, NOW)
    if aggregate.outbox and cause != "event":
        assert wake is not None
    waits = aggregate.closed or aggregate.timers or aggregate.activities or aggregate.deferred
    if waits and not aggregate.quarantined:
        assert wake is not None


@given(aggregates(), CAUSES)
def test_no_timer_is_slept_through_by_more_than_the_backoff(aggregate: Aggregate[Any], cause: Cause):
    wake = wake_time(aggregate, cause, NOW)
    times = [
        *aggregate.timers.values(),
        *(item.due for item in aggregate.deferred[:1]),
        *(item.deadline + ACTIVITY_GRACE_SECONDS for item in aggregate.activities.values()),
    ]
    if wake is not None and times and not aggregate.quarantined:
        assert wake <= max(min(times), NOW + LONGEST_BACKOFF_SECONDS)


@given(aggregates(), CAUSES)
def test_a_tombstone_sleeps_for_ever(aggregate: Aggregate[Any], cause: Cause):
    aggregate.tombstone = True
    assert wake_time(aggregate, cause, NOW) is None


@given(aggregates())
def test_an_aggregate_survives_the_way_to_its_document_and_back(aggregate: Aggregate[Any]):
    back = decode(KIND, from_json(encode(KIND, aggregate).encoded))
    assert back.version == aggregate.version + 1
    back.version = aggregate.version
    assert back == aggregate
