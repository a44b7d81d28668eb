"""Names: what may be one, how they are put together, and that derived ids never change between releases."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_schemas import ids
from raa_schemas.action import ActionDecided
from raa_schemas.step import StepDone, StepReady
from raa_schemas.task import TaskCreated
from raa_schemas.topics import TOPICS, dead_letter_topic, topic_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
tenants = st.from_regex(ids.TENANT_PATTERN, fullmatch=True).filter(ids.is_tenant_id)
tasks = st.from_regex(ids.TASK_ID_PATTERN, fullmatch=True).filter(ids.is_task_id)
steps = st.from_regex(ids.STEP_ID_PATTERN, fullmatch=True).map(str.strip)


@pytest.mark.parametrize("name", ["a", "0", "Task-1", "a.b:c_d", "x" * 128])
def test_task_ids_are_letters_digits_and_a_few_signs(name: str) -> None:
    assert ids.is_task_id(name)


@pytest.mark.parametrize("name", ["", "a/b", ".a", "-a", "a b", "a\n", "\n", "é", "x" * 129, "a\0"])
def test_what_could_leave_its_place_in_an_aggregate_id_is_no_task_id(name: str) -> None:
    assert not ids.is_task_id(name)


@pytest.mark.parametrize("name", ["", "A", "a.b", "a/b", "a\n", "_a", "x" * 64])
def test_what_could_not_be_part_of_a_topic_name_is_no_tenant_id(name: str) -> None:
    assert not ids.is_tenant_id(name)


@pytest.mark.parametrize("path", ["", "v0/a", "v1/", "1/a", "v1/a/b", "v1/a\n", "v01/a", "v1/-"])
def test_what_is_not_a_plan_version_and_a_step_is_no_step_path(path: str) -> None:
    assert not ids.is_step_path(path)


@given(tenants, tasks, st.integers(1, 10**6), steps)
def test_aggregates_of_two_tasks_or_steps_never_meet(tenant: str, task: str, version: int, step: str) -> None:
    path = ids.step_path(version, step)
    aggregate = ids.step_aggregate(tenant, task, path)
    assert ids.is_step_path(path)
    assert aggregate.split("/") == [tenant, task, f"v{version}", step]
    assert ids.tenant_of(aggregate) == tenant
    assert ids.tenant_of(ids.task_aggregate(tenant, task)) == tenant


def test_event_ids_are_the_same_in_every_release() -> None:
    # Written down once: a change would make every consumer take old events for new ones.
    assert ids.event_id("", "planner", "default/t1", "task.done", 7) == "3cd3077a-1f27-57fd-b21a-ba0a0c0b658a"
    origin = ids.origin_key("", "task.created", 2, 41, NOON)
    assert origin == "|task.created|2|41|1772366400000"
    assert ids.derived_event_id(origin) == "6c66515d-745a-562d-bfe3-ebb28fd9acc2"
    assert ids.derived_task_id(origin) == "task-8aa1174906775a3787bd"


@given(st.lists(st.tuples(st.sampled_from(["", "blue"]), st.sampled_from(["planner", "safety"]),
                          st.sampled_from(["default/t1", "acme/t1"]), st.sampled_from(["task.done", "task.status"]),
                          st.integers(1, 5)), unique=True, min_size=2, max_size=20))  # fmt: skip
def test_different_natural_keys_have_different_event_ids(keys: list[tuple[str, str, str, str, int]]) -> None:
    assert len({ids.event_id(*key) for key in keys}) == len(keys)


def test_a_record_in_a_topic_that_was_made_again_is_another_record() -> None:
    later = NOON + timedelta(milliseconds=1)
    assert ids.origin_key("", "t", 0, 0, NOON) != ids.origin_key("", "t", 0, 0, later)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_derived_task_ids_are_task_ids(partition: int, offset: int) -> None:
    assert ids.is_task_id(ids.derived_task_id(ids.origin_key("blue", "task.created", partition, offset, NOON)))


def test_names_of_a_second_deployment_carry_its_prefix_and_those_of_the_main_one_none() -> None:
    assert ids.owned("", "task.created") == "task.created"
    assert ids.owned("blue", "task.created") == "blue.task.created"


@pytest.mark.parametrize("event", [StepReady, ActionDecided])
def test_records_for_a_step_are_keyed_by_the_step(event: type[StepReady]) -> None:
    assert topic_of(event).aggregate_id("acme", "t1", "v2/mean") == "acme/t1/v2/mean"


@pytest.mark.parametrize("event", [StepDone, TaskCreated])
def test_records_for_a_task_are_keyed_by_the_task_even_if_they_name_a_step(event: type[StepDone]) -> None:
    assert topic_of(event).aggregate_id("acme", "t1", "v2/mean") == "acme/t1"


def test_topics_are_found_by_the_type_of_their_event() -> None:
    assert all(topic_of(topic.event) is topic and name == topic.name for name, topic in TOPICS.items())
    assert dead_letter_topic("planner") == "planner.dlq"
