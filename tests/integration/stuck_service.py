"""A service that takes records and settles none, with a watchdog that looks often: for the test of its exit code."""

import asyncio
from typing import Any

from raa_runtime import service as service_module
from raa_runtime import watchdog
from raa_runtime.dispatch import On
from raa_runtime.main import main
from raa_runtime.platform import Platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_schemas.reflection import ReflectionDone


def build(settings: ServiceSettings, platform: Platform) -> Service:
    """Make a service named memory whose every lane hangs."""
    kind = Kind("hung", State)
    service = Service("memory", settings, platform, kinds=[kind], on=[On(ReflectionDone, kind, lambda *_: None)])
    consumer: Any = service._consumer
    consumer._poison = consumer._handle = hang
    return service


async def hang(*_: Any) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


if __name__ == "__main__":
    vars(service_module)["LOOK_SECONDS"] = 0.2
    vars(watchdog)["PATIENCE_SECONDS"] = 1.0
    main(build, ServiceSettings)
