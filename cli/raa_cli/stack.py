"""All services in one process: the same composition roots, the same events, one data folder."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from raa_router.domain.catalogue import Catalogue
from raa_runtime.blobs import BlobStore
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Bus
from raa_runtime.bus.socket_server import SocketServer
from raa_runtime.errors import DependencyUnavailable, Misconfigured
from raa_runtime.folder_lock import FolderLock
from raa_runtime.http import listen
from raa_runtime.platform import Platform, open_platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings

READY_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.02


class Part(NamedTuple):
    """A service by name: where its composition root and settings are."""

    name: str
    settings: str

    def load(self) -> tuple[Callable[[Any, Platform], Service], type[ServiceSettings]]:
        """Import it, and only now."""
        settings = getattr(import_module(f"raa_{self.name}.settings"), self.settings)
        return import_module(f"raa_{self.name}.app").build, settings


# In the order they start: whoever is asked before those who ask.
PARTS: Final = tuple(
    Part(name, f"{name.capitalize()}Settings")
    for name in ("executor", "safety", "memory", "router", "reflector", "planner")
)


class Stack:
    """Run services in this process, and open the data folder's socket to the other commands.

    `overrides` are settings by name, given to every service that has them. Raises Misconfigured when another process
    owns the folder, naming its pid.
    """

    def __init__(
        self,
        data: Path,
        *,
        services: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> None:
        names = [part.name for part in PARTS]
        unknown = [name for name in services or () if name not in names]
        if unknown:
            raise Misconfigured(f"there is no service {unknown[0]!r}; there are {', '.join(names)}")
        self.data = data
        self._parts = [part for part in PARTS if services is None or part.name in services]
        self._environment = os.environ if environment is None else environment
        self._overrides = overrides
        self.services: dict[str, Service] = {}
        self._starting: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            opened.enter_context(FolderLock(self.data))
            settings = self._read_settings(opened)
            first = next(iter(settings.values()))
            own_bus = first.bus == "embedded"
            platform = self.floor(await opened.enter_async_context(open_platform(first, connect=own_bus)))
            self.bus: Bus = platform.bus
            self.blobs: BlobStore = platform.blobs
            for part in self._parts:
                self.services[part.name] = self.build(part, settings[part.name], platform)
            opened.push_async_callback(self._drain)
            await asyncio.gather(*(service.serve() for service in self.services.values()))
            if own_bus:
                await asyncio.gather(*(service.start() for service in self.services.values()))
            else:  # servers may be away: that is waited for, and readiness names them
                starting = (service.start_patiently() for service in self.services.values())
                self._starting = asyncio.gather(*starting)
                opened.push_async_callback(self._stop_starting, self._starting)
            door = SocketServer(self.bus, self.data, self.info, self.bus if isinstance(self.bus, EmbeddedBus) else None)
            await door.start()
            opened.push_async_callback(door.stop)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def _read_settings(self, opened: contextlib.AsyncExitStack) -> dict[str, ServiceSettings]:
        """Give every service a port of its own, and those of this process the addresses of each other."""
        classes = {part.name: part.load()[1] for part in self._parts}
        ports = {name: self._known_port(name) or _reserve(opened) for name in classes}
        urls = {f"{name}_url": f"http://127.0.0.1:{port}" for name, port in ports.items()}
        settings = {}
        for name, cls in classes.items():
            given = {"data": self.data, "http_port": ports[name]} | urls | self._overrides
            known = {field: value for field, value in given.items() if field in cls.model_fields}
            settings[name] = cls.from_env(self._environment, **known)
        return settings

    def _known_port(self, name: str) -> int | None:
        """Say where the other processes look for a service, if this stack runs only some of them."""
        if len(self._parts) == len(PARTS):
            return None
        field = f"{name}_url"
        defaults = (cls.model_fields[field].default for _, cls in (part.load() for part in PARTS)
                    if field in cls.model_fields)  # fmt: skip
        url = self._environment.get(f"RAA_{name.upper()}_URL") or next(defaults, None)
        return urlsplit(url).port if url else None

    def floor(self, platform: Platform) -> Platform:
        """Give what the services stand on; a sandbox has a clock of its own here."""
        return platform

    def build(self, part: Part, settings: ServiceSettings, platform: Platform) -> Service:
        """Put one service together; a sandbox puts recorded answers between it and the outside."""
        return part.load()[0](settings, platform)

    async def _drain(self) -> None:
        await asyncio.gather(*(service.drain() for service in self.services.values()))

    @property
    def urls(self) -> dict[str, str]:
        """Give the base URL of each service."""
        return {name: service.url for name, service in self.services.items()}

    async def info(self) -> dict[str, Any]:
        """Say who this is, for the other commands."""
        return {"pid": os.getpid(), "urls": self.urls, "missing": await self.missing()}

    async def missing(self) -> dict[str, dict[str, str]]:
        """Name what each service lacks; empty when all are ready."""
        answers = {name: await service.missing() for name, service in self.services.items()}
        return {name: missing for name, missing in answers.items() if missing}

    @staticmethod
    async def _stop_starting(starting: "asyncio.Future[Any]") -> None:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    async def ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Wait until every service is ready.

        Raises DependencyUnavailable naming what is missing, and Misconfigured when a server tells that settings are
        wrong.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                if self._starting is not None:
                    await asyncio.shield(self._starting)
                while await self.missing():  # noqa: ASYNC110  # readiness is asked for: nobody announces it
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise DependencyUnavailable(f"not ready after {timeout_seconds:.0f} s: {await self.missing()}") from None


def _reserve(opened: contextlib.AsyncExitStack) -> int:
    """Find a free port and keep it until the block ends.

    The socket is bound but not listening: nobody else gets the port, and the service's own socket may still bind it.
    """
    reserved: socket.socket = opened.enter_context(listen("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    return port


def known_models(environment: Mapping[str, str], **overrides: Any) -> Catalogue:
    """Collect the models that a stack with these settings would have; raises Misconfigured."""
    from raa_router.app import configured
    from raa_router.settings import RouterSettings

    return configured(RouterSettings.from_env(environment, **overrides))
