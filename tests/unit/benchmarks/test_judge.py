"""The client's side of a run: what it submits, when, and what it says of what came out."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from benchmarks.peers.client import End, InProcess, Judge, Load, Task, pass_on, run

pytestmark = pytest.mark.anyio


def judged(tasks: Sequence[Task], *ends: End) -> dict[str, int]:
    judge = Judge(tasks, 4)
    for end in ends:
        judge.see(end)
    return judge.verdict()


def test_a_task_that_never_came_out_is_lost():
    assert judged([Task("a", 0), Task("b", 0)], End("a", 0, 4))["lost"] == 1


def test_a_task_that_came_out_twice_is_a_duplicate_and_nothing_worse():
    verdict = judged([Task("a", 0)], End("a", 0, 4), End("a", 0, 4))
    assert verdict == {"ended": 1, "lost": 0, "duplicates": 1, "misordered": 0, "incomplete": 0}


def test_a_later_task_of_a_key_that_overtakes_is_out_of_order_but_not_one_of_another_key():
    tasks = [Task("a", 0), Task("a", 1), Task("b", 0)]
    assert judged(tasks, End("a", 1, 4), End("b", 0, 4), End("a", 0, 4))["misordered"] == 1
    assert judged(tasks, End("b", 0, 4), End("a", 0, 4), End("a", 1, 4))["misordered"] == 0


def test_a_task_that_left_out_a_stage_is_incomplete():
    assert judged([Task("a", 0)], End("a", 0, 3))["incomplete"] == 1


def test_what_was_never_submitted_does_not_stand_for_what_was():
    assert judged([Task("a", 0)], End("left over", 0, 4))["ended"] == 0


def test_a_stage_refuses_a_task_out_of_its_turn():
    with pytest.raises(ValueError, match="after 2 stages"):
        pass_on(Task("a", 0).body() | {"stage": 2}, 1)


def test_hot_tasks_take_their_share_and_each_key_counts_for_itself():
    tasks = list(Load("x", 1_000, keys=100, hot_share=0.3).tasks())
    hot = [task for task in tasks if task.hot]
    assert len(hot) == 300
    assert [task.number for task in hot] == list(range(300))
    assert len({task[:2] for task in tasks}) == 1_000


async def test_latency_counts_from_the_intended_time_also_when_nobody_could_submit_then():
    async def busy(task: Task) -> int:
        # holds up the whole process for the time in which ten others should have been submitted
        if task.key.endswith("-0"):
            time.sleep(0.1)  # noqa: ASYNC251  # the hold-up is what is tested
        return 4

    report = await run(InProcess(busy), Load("x", 20, rate=100.0, seconds=10))

    assert report["lost"] == 0
    # those after the hold-up waited for it, and say so
    assert sum(waited > 50 for waited in report["waited_ms"]) >= 4


async def test_a_system_that_answers_too_late_has_lost_the_task():
    async def never(_: Task) -> int:
        await asyncio.Event().wait()
        return 4

    report = await run(InProcess(never), Load("x", 3, seconds=0.05))
    assert report["lost"] == 3
