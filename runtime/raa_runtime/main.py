"""Run one service as a process: settings from the environment, signals, exit codes."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from raa_runtime.errors import DependencyUnavailable, Misconfigured
from raa_runtime.platform import Platform, open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.telemetry import configure_logging

C = TypeVar("C", bound=ServiceSettings)
USAGE = 2


def main(build: Callable[[C, Platform], Service], settings_class: type[C]) -> None:
    """Run until SIGTERM or SIGINT, then drain; exits with 2 and one clear line when the settings are wrong."""
    try:
        settings = settings_class.from_env(os.environ)
        if settings.bus == "embedded":
            raise Misconfigured("a service alone needs Kafka: set RAA_BUS=kafka, or run them all with `raa up`")
        configure_logging(settings.log_level)
        asyncio.run(_run(build, settings))
    except (Misconfigured, DependencyUnavailable) as problem:
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(USAGE) from None


async def _run(build: Callable[[C, Platform], Service], settings: C) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with open_platform(settings) as platform:
        service = build(settings, platform)
        await service.start()
        await stop.wait()
        await service.drain()
