"""Calls between services without HTTP: a request reaches a live process of the other service, or it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from raa_runtime.errors import DependencyUnavailable
from raa_runtime.guard import outcome_of
from raa_runtime.simulated.process import OUTSIDE
from raa_runtime.simulated.wire import settle
from raa_runtime.simulated.world import Program, World

T = TypeVar("T")


async def remote(world: World, service: str, serve: Callable[[Program], Awaitable[T]], seconds: float = 5.0) -> T:
    """Have a process of a service answer; raises DependencyUnavailable when none is there or it does not in time."""
    there = [program for program in world.programs.values() if program.service == service and program.running]
    up = [program for program in there if program.up]
    if not up:
        raise DependencyUnavailable(f"nothing answers for {service}")
    program, loop = world.chance.one_of(up), world.loop
    reply: asyncio.Future[T] = loop.create_future()

    async def answer() -> None:
        outcome = await outcome_of(lambda: serve(program))
        problem = outcome if isinstance(outcome, Exception) else None
        if world.chance.happens(world.chance.weather.lost_reply):
            return
        loop.call_later(world.chance.delay(), settle, reply, outcome, problem, context=OUTSIDE)

    def arrive() -> None:
        if program.process is not None and program.up:
            context = program.process.context.copy()
            context.run(loop.call_soon, lambda: loop.create_task(answer()))

    loop.call_later(world.chance.delay(), arrive, context=OUTSIDE)
    try:
        async with asyncio.timeout(seconds):
            return await reply
    except TimeoutError:
        raise DependencyUnavailable(f"{service} does not answer") from None
