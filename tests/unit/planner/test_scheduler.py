"""The fair queue: shares, ageing, not-before, sessions, caps."""

from collections import Counter
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_planner.domain.scheduler import FairQueue, Policy, Ticket
from tests.unit.planner.way import NOON


def ticket(task: str, tenant: str = "a", seconds: float = 0, **more: object) -> Ticket:
    return Ticket(task, tenant, NOON + timedelta(seconds=seconds), **more)  # type: ignore[arg-type]


def order(queue: FairQueue, seconds: float = 0, *, one_at_a_time: bool = True) -> list[str]:
    """Begin and finish tasks until nobody may begin any more."""
    begun = []
    while found := queue.next(NOON + timedelta(seconds=seconds)):
        begun.append(found.task)
        if one_at_a_time:
            queue.finish(found.task)
    return begun


def test_ten_tasks_do_not_wait_behind_ten_thousand():
    queue = FairQueue(Policy(total=1))
    for number in range(10_000):
        queue.offer(ticket(f"flood{number}", "a"))
    for number in range(10):
        queue.offer(ticket(f"few{number}", "b", 1))
    begun = []
    for _ in range(20):
        found = queue.next(NOON)
        assert found is not None
        begun.append(found.tenant)
        queue.finish(found.task)
    assert Counter(begun) == {"a": 10, "b": 10}


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=2), st.integers(20, 80))
def test_backlogged_tenants_get_shares_by_weight(weights: dict[str, int], rounds: int):
    queue = FairQueue(Policy(total=1, weights=weights))
    for tenant in weights:
        for number in range(rounds):
            queue.offer(ticket(f"{tenant}{number}", tenant))
    served: Counter[str] = Counter()
    for _ in range(rounds):
        found = queue.next(NOON)
        assert found is not None
        served[found.tenant] += 1
        queue.finish(found.task)
    for (one, share), (other, others) in product(weights.items(), repeat=2):
        assert abs(served[one] / share - served[other] / others) <= 1 / share + 1 / others


def test_a_tenant_that_was_idle_gets_no_credit_for_it():
    queue = FairQueue(Policy(total=1))
    for number in range(100):
        queue.offer(ticket(f"a{number}", "a"))
    for _ in range(50):
        queue.finish(queue.next(NOON).task)  # type: ignore[union-attr]
    for number in range(50):
        queue.offer(ticket(f"b{number}", "b"))
    first_ten = [queue.next(NOON) for _ in range(1)]
    queue.finish(first_ten[0].task)  # type: ignore[union-attr]
    rest = order(queue)[:9]
    assert 4 <= sum(task.startswith("a") for task in rest) <= 5


def test_priority_goes_first_and_waiting_makes_up_for_it():
    queue = FairQueue(Policy(total=1, ageing=timedelta(seconds=30)))
    queue.offer(ticket("old and low", seconds=0, priority=0))
    queue.offer(ticket("high", seconds=100, priority=9))
    queue.offer(ticket("higher, but ten levels younger", seconds=301, priority=9))
    assert order(queue) == ["high", "old and low", "higher, but ten levels younger"]


def test_not_before_holds_a_task_back_until_then():
    queue = FairQueue(Policy())
    queue.offer(ticket("later", not_before=NOON + timedelta(seconds=10)))
    queue.offer(ticket("now"))
    assert order(queue) == ["now"]
    assert queue.oldest_age(NOON) == timedelta(0)
    assert order(queue, 10) == ["later"]


def test_tasks_of_a_session_run_one_after_another():
    queue = FairQueue(Policy())
    for number in (2, 1, 3):
        queue.offer(ticket(f"s{number}", seconds=number, session="chat"))
    queue.offer(ticket("free", seconds=9))
    assert order(queue, one_at_a_time=False) == ["s1", "free"]
    queue.finish("s1")
    assert order(queue, one_at_a_time=False) == ["s2"]
    queue.finish("s2")
    assert order(queue) == ["s3"]


def test_a_parked_task_frees_capacity_and_keeps_its_session():
    queue = FairQueue(Policy(total=1))
    first = ticket("s1", session="chat")
    assert queue.claim(first, NOON)
    queue.offer(ticket("s2", session="chat", seconds=1))
    queue.offer(ticket("other", seconds=2))
    assert queue.next(NOON) is None
    queue.hold(first, NOON, parked=True)
    assert order(queue) == ["other"]
    queue.finish("s1")
    assert order(queue) == ["s2"]


def test_a_tenants_cap_leaves_room_for_others():
    queue = FairQueue(Policy(total=3, per_tenant=2))
    assert [queue.claim(ticket(f"a{n}", "a"), NOON) for n in range(3)] == [True, True, False]
    assert queue.claim(ticket("b", "b"), NOON)
    assert queue.depth == 1


def test_a_claim_may_be_repeated():
    queue = FairQueue(Policy(total=1))
    assert queue.claim(ticket("x"), NOON)
    assert queue.claim(ticket("x"), NOON)
    assert queue.active == 1


def test_a_claim_does_not_jump_the_queue():
    queue = FairQueue(Policy(total=1))
    queue.claim(ticket("x"), NOON)
    queue.offer(ticket("waiting", seconds=1))
    queue.finish("x")
    assert not queue.claim(ticket("new", seconds=2), NOON)
    assert order(queue) == ["waiting", "new"]


def test_a_slot_whose_task_fell_silent_is_taken_back():
    queue = FairQueue(Policy(total=1, idle=timedelta(minutes=30)))
    queue.claim(ticket("gone"), NOON)
    queue.offer(ticket("next"))
    assert queue.next(NOON + timedelta(minutes=30)) is None
    assert queue.next(NOON + timedelta(minutes=31)) is not None


def test_a_cancelled_task_leaves_the_queue_and_its_session():
    queue = FairQueue(Policy())
    queue.offer(ticket("s1", session="chat"))
    queue.offer(ticket("s2", session="chat", seconds=1))
    queue.finish("s1")
    assert order(queue) == ["s2"]


OPERATIONS = st.tuples(st.sampled_from(["offer", "claim", "next", "hold", "park", "finish"]), st.integers(0, 11))


@given(st.lists(OPERATIONS, max_size=80), st.integers(1, 4), st.integers(1, 3))
def test_whatever_happens_the_caps_hold_and_nothing_is_lost(steps: list[tuple[str, int]], total: int, per_tenant: int):
    queue = FairQueue(Policy(total=total, per_tenant=per_tenant))
    tickets = [ticket(f"t{n}", "abc"[n % 3], n, session=[None, "s"][n % 2], priority=n % 10) for n in range(12)]
    waiting: set[str] = set()
    held: set[str] = set()
    parked: set[str] = set()
    for name, number in steps:
        one = tickets[number]
        if name in {"offer", "claim"} and one.task not in held:
            begun = queue.claim(one, NOON) if name == "claim" else bool(queue.offer(one))  # type: ignore[func-returns-value]
            (held if begun else waiting).add(one.task)
            waiting -= held
        elif name == "next" and (found := queue.next(NOON)):
            waiting.remove(found.task)
            held.add(found.task)
        elif name in {"hold", "park"} and one.task in held:
            queue.hold(one, NOON, parked=name == "park")
            parked = parked | {one.task} if name == "park" else parked - {one.task}
        elif name == "finish":
            queue.finish(one.task)
            for places in (waiting, held, parked):
                places.discard(one.task)
        assert queue.depth == len(waiting)
        assert queue.active == len(held - parked)
    for task in list(held):
        queue.finish(task)
    assert sorted(order(queue)) == sorted(waiting)


@pytest.mark.parametrize("age", [0, 90])
def test_the_oldest_age_is_told(age: int):
    queue = FairQueue(Policy())
    queue.offer(ticket("x"))
    assert queue.oldest_age(NOON + timedelta(seconds=age)) == timedelta(seconds=age)
