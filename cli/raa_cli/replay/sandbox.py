"""The six services in a folder of their own, on recorded time and answers, from the same composition roots."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from raa_cli.replay.answers import (
    RecordedApprovers,
    RecordedMemory,
    RecordedModels,
    RecordedTools,
    Stage,
    taken_as_given,
)
from raa_cli.replay.blobs import OverlaidBlobs
from raa_cli.replay.clock import RecordedClock
from raa_cli.stack import Part, Stack, known_models
from raa_cli.web import ask
from raa_executor.ports import Tools
from raa_router.adapters.model_file import read_models
from raa_router.domain.catalogue import ModelSpec, UnknownModelError, choose_model
from raa_router.settings import RouterSettings
from raa_runtime.activities import Run
from raa_runtime.blobs import BlobStore
from raa_runtime.platform import Platform
from raa_runtime.service import Service
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.sqlite import SqliteStore
from raa_schemas.tool import ToolList

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
        self.tools = ""
        """Digest of the tools there are here, once the sandbox is ready."""
        self._original = original

    async def look_at_tools(self) -> None:
        """Find out which tools there are here."""
        answer = ToolList.model_validate(await ask(self.urls["executor"], "/v1/tools"))
        self.tools = answer.digest

    def floor(self, platform: Platform) -> Platform:
        """Put recorded time and the original's blobs under the services."""
        platform.clock = self.clock
        platform.blobs = OverlaidBlobs(platform.blobs, self._original)
        platform.open_store = lambda service: _RecordedStore(self.data / f"{service}.sqlite", self.clock)
        return platform

    def build(self, part: Part, settings: ServiceSettings, platform: Platform) -> Service:
        """Put what is recorded between a service and the outside."""
        between: dict[str, dict[str, Any]] = {
            "planner": {"memory": RecordedMemory(self.stage)},
            "router": {"through": self._models},
            "executor": {"through": self._tools},
            "safety": {"approvers": self.approvers, "verified": taken_as_given},
        }
        build: Callable[..., Service] = part.load()[0]
        return build(settings, platform, **between.get(part.name, {}))

    def _models(self, live: Run) -> Run:
        return RecordedModels(self.stage, live)

    def _tools(self, live: Run, tools: Tools) -> Run:
        return RecordedTools(self.stage, live, tools)


def with_model(asked: str, models: Path | None) -> dict[str, Any]:
    """Give the setting `models` such that the router knows the model that tasks asked for.

    One that is configured no more is only a name here: its recorded answers are served, and no call reaches it.
    """
    given = {"models": models} if models else {}
    try:
        choose_model(known_models(os.environ, **given), asked)
    except UnknownModelError:
        configured = RouterSettings.from_env(os.environ, **given).models
        return {"models": [*read_models(configured), ModelSpec(name=asked)]}
    return given
