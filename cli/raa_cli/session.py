"""Gets a command its client: over Kafka, to the stack that runs on the data folder, or to one of its own."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from raa_cli.execute import CommandFailed, UsageProblem
from raa_cli.stack import Stack
from raa_client.client import Client
from raa_client.connect import connect
from raa_client.operator import operator_of
from raa_runtime.bus.socket_client import SocketBus
from raa_runtime.errors import DependencyUnavailable, Misconfigured
from raa_runtime.folder_lock import FolderLock
from raa_runtime.platform import open_platform
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import is_tenant_id

JOIN_SECONDS: Final = 5.0
"""How long the owner of a data folder may take to open its socket."""

OWN_DRAIN_SECONDS: Final = 2.0
MODELS_FILE: Final = "models.json"


@dataclass(frozen=True)
class Place:
    """Where a command looks: which bus, which data folder, whose tasks."""

    data: Path
    bus: str = "embedded"
    tenant: str = "default"

    def settings(self) -> ServiceSettings:
        """Read the settings; raises Misconfigured."""
        if not is_tenant_id(self.tenant):
            raise UsageProblem(f"{self.tenant!r} is no tenant; use up to 63 of a-z, 0-9, _ and -")
        with self._told():
            self.data.exists()
        return ServiceSettings.from_env(os.environ, data=self.data, bus=self.bus)

    def prepare(self) -> None:
        """Make the folder of an embedded bus before a stack starts on it; raises UsageProblem if it cannot be one."""
        if self.settings().bus != "embedded":
            return
        with self._told():
            self.data.mkdir(parents=True, exist_ok=True)
            if not os.access(self.data, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            message = f"--data {self.data} cannot hold a stack's data: {problem.strerror}; name another folder"
            raise UsageProblem(message) from None


@dataclass(frozen=True)
class Session:
    """A client, and the stack that was started for it, if one was. Offline nothing runs and nothing will come."""

    client: Client
    stack: Stack | None = None
    offline: bool = False


def stack_overrides(data: Path, *, tools: Sequence[Path] = (), model: str | None = None) -> dict[str, Any]:
    """Give the settings that a stack on a data folder has from its command line and its folder.

    On one machine the person at the keyboard may read their own files: inputs may lie below the current folder.
    """
    given: dict[str, Any] = {}
    if not os.environ.get("RAA_INPUT_ROOTS"):
        given["input_roots"] = [Path.cwd()]
    if (data / MODELS_FILE).is_file() and not os.environ.get("RAA_MODELS"):
        given["models"] = data / MODELS_FILE
    if tools:
        given["tools"] = [_tool_file(path) for path in tools]
    if model:
        given["model"] = model
    return given


def _tool_file(path: Path) -> Path:
    if not path.is_file():
        raise UsageProblem(f"--tools: there is no file {path}; name a Python file with @tool functions")
    return path


@contextlib.asynccontextmanager
async def running(place: Place) -> AsyncIterator[Client]:
    """Open a client of something that runs; raises DependencyUnavailable saying what to start."""
    async with connect(place.settings(), place.tenant) as client:
        yield client


@contextlib.asynccontextmanager
async def reading(place: Place) -> AsyncIterator[Session]:
    """Open a client that only reads: of what runs, else of the data folder as the last stack left it."""
    settings = place.settings()
    if settings.bus == "kafka" or await owner(place.data):
        async with running(place) as client:
            yield Session(client)
        return
    something_there(place)
    with FolderLock(place.data):
        async with open_platform(settings) as platform:
            client = Client(platform.bus, platform.blobs, deployment=settings.deployment, tenant=place.tenant)
            yield Session(client, offline=True)


def something_there(place: Place) -> None:
    """Refuse a data folder that no stack has ever run on, instead of making an empty one."""
    if place.settings().bus == "embedded" and not (place.data / "raa.lock").is_file():
        raise CommandFailed(
            f"no stack has run on {place.data}; start one with `raa up --data {place.data}`, "
            "or name its folder with --data"
        )


@contextlib.asynccontextmanager
async def open_session(place: Place, **overrides: Any) -> AsyncIterator[Session]:
    """Open a client of what runs, else of a stack of our own that ends with the block."""
    settings = place.settings()
    if settings.bus == "kafka" or await owner(place.data):
        _refuse_overrides(overrides)
        async with running(place) as client:
            yield Session(client)
        return
    operator_of(place.data)
    stack = Stack(place.data, bus=place.bus, drain_seconds=OWN_DRAIN_SECONDS, **overrides)
    try:
        await stack.__aenter__()
    except Misconfigured:
        if not await _joined(place.data):
            raise
        async with running(place) as client:
            yield Session(client)
        return
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_exit(stack.__aexit__)
        await stack.ready()
        client = Client(stack.bus, stack.blobs, deployment=settings.deployment, tenant=place.tenant)
        yield Session(client, stack)


def _refuse_overrides(overrides: dict[str, Any]) -> None:
    named = [name for name in ("tools", "model") if name in overrides]
    if named:
        raise UsageProblem(
            f"--{named[0]} is a choice of the stack, and one runs already; start it with "
            f"`raa up --{named[0]} …`, or name another folder with --data"
        )


async def owner(data: Path) -> dict[str, Any] | None:
    """Ask the stack on a data folder about itself; None when there is none."""
    try:
        return await SocketBus(data).info()
    except DependencyUnavailable:
        return None


async def _joined(data: Path) -> bool:
    """Wait for the socket of whoever holds the folder; False when it does not open."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(JOIN_SECONDS):
            while not await owner(data):  # noqa: ASYNC110  # the socket is another process's
                await asyncio.sleep(0.05)
            return True
    return False


@contextlib.asynccontextmanager
async def service_url(place: Place, service: str) -> AsyncIterator[str]:
    """Give the address of a service of what runs, or start that service alone for the block."""
    settings = place.settings()
    if info := await owner(place.data):
        if service not in info["urls"]:
            raise DependencyUnavailable(f"the stack on {place.data} runs no {service}; start one with `raa up`")
        yield info["urls"][service]
    elif settings.bus == "kafka":
        yield configured_url(service)
    else:
        async with Stack(place.data, bus=place.bus, services=[service], **stack_overrides(place.data)) as stack:
            await stack.ready()
            yield stack.urls[service]


def configured_url(service: str) -> str:
    """Give the address by which other services know one, from the variables they read."""
    from raa_executor.settings import ExecutorSettings
    from raa_planner.settings import PlannerSettings

    cls = ExecutorSettings if service == "safety" else PlannerSettings
    settings = cls.from_env(os.environ)
    url: str = getattr(settings, f"{service}_url")
    return url
