"""Run one service as a process: settings from the environment, signals, exit codes."""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from raa_runtime.errors import DependencyUnavailable, Misconfigured
from raa_runtime.folder_lock import FolderLock
from raa_runtime.platform import Platform, open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.telemetry import configure_logging

C = TypeVar("C", bound=ServiceSettings)
T = TypeVar("T")
USAGE: Final = 2
STUCK: Final = 70
IMPATIENT: Final = 130
LEFT_BEHIND_SECONDS: Final = 5.0


def main(build: Callable[[C, Platform], Service], settings_class: type[C]) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the process at once, as a crash would.

    Bus or store may be away at the start: it waits for them, not ready. Exits with 2 and one clear line when the
    settings are wrong, with 70 when the watchdog found it stuck.
    """
    try:
        settings = settings_class.from_env(os.environ)
        if settings.bus == "embedded":
            raise Misconfigured("a service alone needs Kafka: set RAA_BUS=kafka, or run them all with `raa up`")
        configure_logging(settings.log_level)
        code = run_loop(_run(build, settings))
    except (Misconfigured, DependencyUnavailable) as problem:
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(USAGE) from None
    raise SystemExit(code)


# A thread that comes back from the disk waits this long for a busy loop to let it go on, once per statement.
SWITCH_SECONDS: Final = 0.0005


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a program's main coroutine, on uvloop where there is one."""
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def settle_memory() -> None:
    """Spare the garbage collector what lives as long as the process; call it once, after the start.

    On the floor benchmark, whose objects nearly all die by reference count, this saves a third of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def leave_soon(code: int) -> None:
    """Let no thread that a tool left behind hold the process for longer than 5 seconds."""
    timer = threading.Timer(LEFT_BEHIND_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()


async def finished_before(work: Coroutine[Any, Any, None], end: "asyncio.Task[Any]") -> bool:
    """Run until `work` or `end` is over, whichever is first; work that is not is cancelled. Raises what it raised."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=LEFT_BEHIND_SECONDS)
    if task.done() and not task.cancelled():
        task.result()
        return True
    return False


async def _run(build: Callable[[C, Platform], Service], settings: C) -> int:
    stop = asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            os._exit(IMPATIENT)
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, asked)
    async with open_platform(settings, connect=False) as platform:
        service = build(settings, platform)
        with FolderLock(settings.data, service.name):
            try:
                stopped, stuck = (asyncio.create_task(event.wait()) for event in (stop, service.stuck))
                if await finished_before(service.start_patiently(), stopped):
                    settle_memory()
                    await asyncio.wait({stopped, stuck}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await service.drain()
    code = STUCK if service.stuck.is_set() else 0
    leave_soon(code)
    return code
