"""Runs the services in one process until it is told to stop."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from raa_cli.execute import UsageProblem
from raa_cli.output import print_json
from raa_cli.session import Place, stack_overrides
from raa_cli.stack import PARTS, Stack
from raa_client.operator import operator_of
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.main import IMPATIENT, STUCK, leave_soon, settle_memory
from raa_runtime.telemetry import configure_logging

_log = logging.getLogger(__name__)


async def up(
    place: Place, *, services: str | None, tools: Sequence[Path], model: str | None, log_level: str, as_json: bool
) -> int:
    """Start, say so on standard output when all are ready, and drain on SIGTERM or SIGINT; gives the exit code."""
    begun = time.monotonic()
    configure_logging(log_level)
    place.prepare()
    chosen = _chosen(services, place.bus)
    overrides = stack_overrides(place.data, tools=tools, model=model)
    async with _told_to_stop() as stop:
        operator_of(place.data)
        async with Stack(place.data, services=chosen, bus=place.bus, log_level=log_level, **overrides) as stack:
            told = asyncio.create_task(_say_when_ready(place, stack, begun, as_json=as_json))
            stopped = asyncio.create_task(stop.wait())
            stuck = await _stopped_or_stuck(stack, stopped, told)
    leave_soon(STUCK if stuck else 0)
    return STUCK if stuck else 0


async def _say_when_ready(place: Place, stack: Stack, begun: float, *, as_json: bool) -> None:
    await until_ready(stack, begun)
    settle_memory()
    _say_ready(place, stack, time.monotonic() - begun, as_json=as_json)


async def until_ready(stack: Stack, begun: float) -> None:
    """Wait as long as it takes, and say twice a minute what is missing.

    Servers come back, and a stack that starts on a large backlog is too busy to answer itself at first: ending it would
    begin the same backlog again. Raises Misconfigured for what does not come by waiting.
    """
    while True:
        try:
            return await stack.ready()
        except DependencyUnavailable:
            missing = await stack.missing()
            _log.warning("not ready for %.0f s, and still waiting for: %s", time.monotonic() - begun, missing)


async def _stopped_or_stuck(stack: Stack, stopped: "asyncio.Task[Any]", told: "asyncio.Task[None]") -> bool:
    """Wait until somebody stops the stack, or a watchdog finds a service stuck; say which.

    Raises what kept the stack from ever being ready.
    """
    stuck = [asyncio.create_task(service.stuck.wait()) for service in stack.services.values()]
    ends = {stopped, *stuck}
    await asyncio.wait({told, *ends}, return_when=asyncio.FIRST_COMPLETED)
    if told.done():
        told.result()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    found = any(task.done() for task in stuck)
    for task in (told, *ends):
        task.cancel()
    await asyncio.gather(told, *ends, return_exceptions=True)
    return found


def _chosen(services: str | None, bus: str) -> list[str] | None:
    if services is None:
        return None
    names = [name.strip() for name in services.split(",") if name.strip()]
    there = sorted(part.name for part in PARTS)
    if unknown := [name for name in names if name not in there]:
        raise UsageProblem(f"--services: there is no service {unknown[0]!r}; there are {', '.join(there)}")
    if not names:
        raise UsageProblem(f"--services names none; there are {', '.join(there)}")
    if bus == "embedded":
        raise UsageProblem(
            "--services needs Kafka: on the embedded bus all services share one process. Leave it out, "
            "or use --bus kafka (and RAA_KAFKA_BOOTSTRAP)"
        )
    return names


def _say_ready(place: Place, stack: Stack, seconds: float, *, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "ready": True,
        "pid": os.getpid(),
        "data": str(place.data),
        "bus": place.bus,
        "urls": stack.urls,
        "seconds": round(seconds, 3),
    }
    if as_json:
        print_json(facts)
        return
    print(
        f"ready in {seconds:.1f} s: {', '.join(sorted(stack.urls))} on {place.data} ({place.bus} bus), "
        f"pid {os.getpid()}. Ctrl-C stops it.",
        flush=True,
    )


@asynccontextmanager
async def _told_to_stop() -> AsyncIterator[asyncio.Event]:
    """Turn the first SIGTERM or SIGINT into an event; a second one ends the process at once, as a crash would."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def told() -> None:
        if stop.is_set():
            os._exit(IMPATIENT)
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told)
    try:
        yield stop
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)
