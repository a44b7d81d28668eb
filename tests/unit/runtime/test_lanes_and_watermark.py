"""The two small parts of the consumer policy that everything else leans on."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from raa_runtime.lanes import Lanes
from raa_runtime.watermark import Watermark


@given(st.permutations(list(range(12))), st.integers(0, 12))
def test_only_the_contiguous_prefix_is_committed(order: list[int], settled: int) -> None:
    mark = Watermark()
    for offset in range(12):
        mark.take(offset)
    for offset in order[:settled]:
        mark.settle(offset)

    done = set(order[:settled])
    prefix = next((offset for offset in range(12) if offset not in done), 12)
    assert mark.to_commit() == (prefix or None)
    assert mark.in_flight == 12 - prefix


def test_a_committed_watermark_is_not_committed_again() -> None:
    mark = Watermark()
    mark.take(5)
    mark.settle(5)
    mark.committed(6)
    assert mark.to_commit() is None


def test_a_lane_keeps_its_order_and_holds_nobody_else_up() -> None:
    async def scenario() -> list[str]:
        lanes, seen, gate = Lanes(), [], asyncio.Event()

        async def slow() -> None:
            await gate.wait()
            seen.append("a1")

        async def note(text: str) -> None:
            seen.append(text)
            if text == "b1":
                gate.set()

        lanes.put("a", slow)
        lanes.put("a", lambda: note("a2"))
        lanes.put("b", lambda: note("b1"))
        await lanes.idle()
        return seen

    assert asyncio.run(scenario()) == ["b1", "a1", "a2"]


def test_an_item_that_raises_keeps_its_place_until_it_succeeds() -> None:
    async def scenario() -> list[str]:
        seen: list[str] = []
        lanes = Lanes(lambda lane, problem: seen.append(f"{lane}: {problem}"))

        async def once_bad() -> None:
            if not seen:
                raise RuntimeError("bug")
            seen.append("first")

        async def second() -> None:
            seen.append("second")

        lanes.put("a", once_bad)
        lanes.put("a", second)
        await lanes.idle()
        return seen

    assert asyncio.run(scenario()) == ["a: bug", "first", "second"]


def test_what_may_pass_a_waiting_head_runs_beside_it_and_before_whatever_follows() -> None:
    async def scenario() -> list[str]:
        lanes, seen, gate = Lanes(), [], asyncio.Event()

        async def head() -> None:
            lanes.let_pass(asyncio.current_task())
            await gate.wait()
            await lanes.go_on()
            seen.append("head")

        async def note(text: str) -> None:
            await asyncio.sleep(0.01)
            seen.append(text)
            if text == "p2":
                gate.set()

        lanes.put("a", head)
        lanes.put("a", note, "next")
        lanes.put("a", note, "p1", passing=True)
        await asyncio.sleep(0.005)
        lanes.put("a", note, "p2", passing=True)
        lanes.put("a", note, "last")
        await lanes.idle()
        lanes.put("a", note, "p3", passing=True)
        await lanes.idle()
        return seen

    assert asyncio.run(scenario()) == ["p1", "p2", "head", "next", "last", "p3"]


def test_the_head_goes_on_only_when_those_who_pass_are_through() -> None:
    async def scenario() -> list[str]:
        lanes, seen, passing = Lanes(), [], asyncio.Event()

        async def head() -> None:
            lanes.let_pass(asyncio.current_task())
            await passing.wait()
            await lanes.go_on()
            seen.append("head")

        async def slow() -> None:
            passing.set()
            await asyncio.sleep(0.02)
            seen.append("slow")

        lanes.put("a", head)
        lanes.put("a", slow, passing=True)
        await lanes.idle()
        return seen

    assert asyncio.run(scenario()) == ["slow", "head"]
