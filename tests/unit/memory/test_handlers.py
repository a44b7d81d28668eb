"""What memory keeps of a reflection."""

from datetime import timedelta

from raa_memory.domain.episode import EPISODE, MOST_LESSONS, EpisodeLog
from raa_memory.domain.fold import fold
from raa_memory.domain.tenant_memory import TenantMemory
from raa_memory.handlers import on_reflection_done
from raa_runtime.testing import NOON, unit_for
from raa_runtime.unit import Received, Unit
from raa_schemas.reflection import ReflectionDone
from tests.unit.memory.lessons import lesson, reflection


def handle(event: Received[ReflectionDone], state: EpisodeLog | None = None, minute: int = 0) -> Unit[EpisodeLog]:
    unit = unit_for(EPISODE, "default/t1", state, now=NOON + timedelta(minutes=minute))
    on_reflection_done(unit, event)
    return unit


def test_a_reflection_appends_its_attempt_and_its_lessons_and_marks_the_time():
    unit = handle(reflection(lesson()), minute=3)
    assert [delta.lesson for delta in unit.state.deltas] == [lesson()]
    assert [attempt.plan_version for attempt in unit.state.attempts] == [2]
    assert unit.aggregate.marks == {"learned_at": (NOON + timedelta(minutes=3)).timestamp()}
    assert unit.published == []


def test_a_reflection_that_comes_again_changes_nothing():
    first = handle(reflection(lesson()))
    again = handle(reflection(lesson()), first.state)
    assert again.ignored
    assert len(again.state.deltas) == 1


def test_a_second_attempt_is_appended():
    state = handle(reflection(lesson())).state
    handle(reflection(lesson({"x": 1}), event_id="ref-2", attempt=3), state, minute=1)
    assert state.reflections == ["ref-1", "ref-2"]
    assert len(fold(state.deltas)) == 2


def test_with_memory_off_nothing_is_learned_but_the_reflection_is_known():
    state = handle(reflection(lesson(), memory="off")).state
    assert (state.reflections, state.attempts, state.deltas) == (["ref-1"], [], [])


def test_partial_evidence_teaches_nothing():
    state = handle(reflection(lesson(), partial_evidence=True)).state
    assert (len(state.attempts), state.attempts[0].partial, state.deltas) == (1, True, [])


def test_too_many_or_too_large_lessons_are_counted_and_left_out():
    many = [lesson({f"k{n}": 1}) for n in range(MOST_LESSONS + 2)]
    state = handle(reflection(lesson({"text": "x" * 10_000}), *many)).state
    assert (len(state.deltas), state.left_out) == (MOST_LESSONS - 1, 4)


def test_a_log_survives_being_stored():
    state = handle(reflection(lesson())).state
    assert EpisodeLog.model_validate_json(state.model_dump_json()) == state


def test_a_tenant_memory_takes_each_log_once_and_grows_with_it():
    memory, state = TenantMemory(), handle(reflection(lesson())).state
    assert memory.take("default/t1", state)
    assert not memory.take("default/t1", state)
    handle(reflection(lesson({"x": 1}), event_id="ref-2"), state, minute=1)
    assert memory.take("default/t1", state)
    assert (len(memory.learned), memory.knows(["ref-1", "ref-2"]), memory.knows(["ref-3"])) == (2, True, False)
