"""The virtual loop: time jumps, the seed decides, and a dead process does nothing more, not even tidy up."""

import asyncio
import time
from typing import Any

import pytest

from raa_runtime.simulated.chance import Chance
from raa_runtime.simulated.loop import NothingLeftError, SimulatedLoop, dismiss, lay_to_rest
from raa_runtime.simulated.process import Process
from raa_runtime.simulated.wire import Server, Wire
from raa_runtime.simulated.world import Program, World


def order_of(seed: int) -> tuple[list[int], int]:
    loop, order = SimulatedLoop(seed), []

    async def note(number: int) -> None:
        await asyncio.sleep(0)
        order.append(number)

    async def all_of_them() -> None:
        await asyncio.gather(*(note(number) for number in range(8)))

    loop.run_until_complete(all_of_them())
    loop.end()
    return order, loop.digest


def test_a_day_takes_no_time():
    loop, begun = SimulatedLoop(1), time.monotonic()
    loop.run_until_complete(asyncio.sleep(86_400))
    assert loop.time() >= 86_400
    assert time.monotonic() - begun < 5
    loop.end()


def test_the_seed_decides_who_is_next_and_the_same_seed_decides_the_same():
    assert order_of(1) == order_of(1)
    assert len({tuple(order_of(seed)[0]) for seed in range(20)}) > 10
    assert len({order_of(seed)[1] for seed in range(20)}) == 20


def test_a_thread_is_refused():
    loop = SimulatedLoop(1)
    with pytest.raises(NotImplementedError, match="virtual time"):
        loop.run_until_complete(asyncio.to_thread(time.time))
    loop.end()


def test_waiting_for_what_never_comes_is_an_error():
    loop = SimulatedLoop(1)
    with pytest.raises(NothingLeftError):
        loop.run_until_complete(loop.create_future())
    loop.end()


class Traces:
    """What a process leaves behind when it is stopped at every one of its steps."""

    def __init__(self) -> None:
        self.left: list[str] = []

    async def work(self) -> None:
        try:
            for number in range(3):
                await asyncio.sleep(0.1)
                self.left.append(f"did {number}")
        finally:
            self.left.append("tidied up")


def play(act: str, at: int) -> list[str]:
    traces, process = Traces(), Process("p", 0)
    loop = SimulatedLoop(1)
    graveyard: list[asyncio.Task[Any]] = []

    def killed(one: Process) -> None:
        one.state = "dead"
        for task in asyncio.all_tasks(loop):
            dismiss(task)
            graveyard.append(task)  # whoever lets go of it has Python tidy it up after all

    loop.killer = killed
    if act == "kill":
        process.dies_at = at

    async def world() -> None:
        loop.create_task(traces.work(), context=process.context)
        await asyncio.sleep(0.15)
        if act == "freeze":
            process.state = "frozen"
        await asyncio.sleep(10)
        if act == "freeze":
            assert traces.left == ["did 0"]
            loop.thaw(process)
            await asyncio.sleep(1)

    loop.run_until_complete(world())
    left = list(traces.left)
    lay_to_rest([*graveyard, *loop.end()])
    return left


def test_a_process_that_is_killed_at_a_step_does_nothing_from_there_on():
    whole = play("nothing", 0)
    assert whole == ["did 0", "did 1", "did 2", "tidied up"]
    endings = {tuple(play("kill", step)) for step in range(1, 12)}
    assert endings == {(), ("did 0",), ("did 0", "did 1"), tuple(whole)}


def test_a_frozen_process_goes_on_where_it_was():
    assert play("freeze", 0) == ["did 0", "did 1", "did 2", "tidied up"]


def test_a_world_puts_everything_back_as_it_was():
    from raa_runtime import consumer, liveness

    before = consumer._POLL_SECONDS, liveness.new_incarnation
    with World(1) as world:
        assert (consumer._POLL_SECONDS, liveness.new_incarnation) != before
        assert world.programs == {}
        assert not Program("p", "planner", lambda *_: None).up  # type: ignore[arg-type]
    assert (consumer._POLL_SECONDS, liveness.new_incarnation) == before


@pytest.mark.parametrize("seed", range(20))
def test_what_is_sent_first_over_one_wire_arrives_first(seed: int):
    loop, chance = SimulatedLoop(seed), Chance(seed)
    sent: list[int] = []
    arrived: list[int] = []

    async def ask(wire: Wire, number: int) -> None:
        sent.append(number)
        await wire.ask(lambda: arrived.append(number))

    async def all_of_them() -> None:
        wire = Wire(Server("somewhere", chance))
        await asyncio.gather(*(ask(wire, number) for number in range(20)))

    loop.run_until_complete(all_of_them())
    loop.end()
    assert arrived == sent
