"""The six services in a folder of their own, on recorded time, fed with recorded answers: the same composition roots."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from raa_cli.replay.answers import RecordedApprovers, RecordedMemory, RecordedModels, RecordedTools, Stage, taken_as_given
from raa_cli.replay.blobs import OverlaidBlobs
from raa_cli.replay.clock import RecordedClock
from raa_cli.stack import Part, Stack
from raa_executor.ports import Tools
from raa_runtime.activities import Run
from raa_runtime.blobs import BlobStore
from raa_runtime.platform import Platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.sqlite import SqliteStore

# A machine's own choice of servers is not the sandbox's: it has a bus, stores and blobs of its own.
_OWN: Final[dict[str, Any]] = {
    "bus": "embedded",
    "store": "sqlite",
    "redis_url": None,
    "blobs_url": "",
    "create_topics": True,
    "drain_seconds": 0.5,
    "input_roots": [],
    "tenants": frozenset(),
    "allow_anonymous": True,
    "kafka_security": {},
}


class _RecordedStore(SqliteStore):
    """A store whose own clock is the sandbox's, so that nobody thinks one of them is wrong."""

    def __init__(self, path: Path, clock: RecordedClock) -> None:
        super().__init__(path)
        self._clock = clock

    async def now(self) -> Any:
        """Give the recorded time."""
        return self._clock.now()


class Sandbox(Stack):
    """A stack that reads blobs of the original, and writes nothing of it."""

    def __init__(
        self, folder: Path, original: BlobStore, *, environment: Mapping[str, str] | None = None, **overrides: Any
    ) -> None:
        self.deployment = f"replay-{uuid4().hex[:8]}"
        super().__init__(
            folder,
            environment=os.environ if environment is None else environment,
            **(_OWN | overrides | {"deployment": self.deployment}),
        )
        self.clock = RecordedClock()
        self.stage = Stage()
        self.approvers = RecordedApprovers()
        self._original = original

    def floor(self, platform: Platform) -> Platform:
        """Put recorded time and the original's blobs under the services."""
        platform.clock = self.clock
        platform.blobs = OverlaidBlobs(platform.blobs, self._original)
        platform.open_store = lambda service: _RecordedStore(self.data / f"{service}.sqlite", self.clock)
        return platform

    def build(self, part: Part, settings: ServiceSettings, platform: Platform) -> Service:
        """Put what is recorded between a service and the outside."""
        build, _ = part.load()
        if part.name == "planner":
            return partial(build, memory=RecordedMemory(self.stage))(settings, platform)
        if part.name == "router":
            return partial(build, through=self._models)(settings, platform)
        if part.name == "executor":
            return partial(build, through=self._tools)(settings, platform)
        if part.name == "safety":
            return partial(build, approvers=self.approvers, verified=taken_as_given)(settings, platform)
        return build(settings, platform)

    def _models(self, live: Run) -> Run:
        return RecordedModels(self.stage, live)

    def _tools(self, live: Run, tools: Tools) -> Run:
        return RecordedTools(self.stage, live, tools)
