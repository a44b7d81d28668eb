"""What the executor needs from outside: safety's keys and its kill switch, tools, and files for a step."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from raa_executor.tools.context import CallContext, Happened
from raa_executor.tools.workspace import Workspace
from raa_runtime.scope import TenantScope
from raa_schemas.artifact import Artifact
from raa_schemas.tool import ToolSpec

Signature = Literal["good", "bad", "unknown_key"]


class KeyRing(Protocol):
    """Safety's public keys, as they are known now. Reading never waits."""

    def check(self, key_id: str, content: bytes, signature: str) -> Signature:
        """Check an Ed25519 signature (base64) over `content`; `bad` for anything malformed."""


class KeySource(Protocol):
    """Where safety's public keys come from."""

    async def refresh(self) -> None:
        """Fetch the keys again; raises TransientError while safety does not answer."""


class KillSwitch(Protocol):
    """The switch that stops all tools of a tenant, or of everybody."""

    async def closed(self, tenant: str) -> str | None:
        """Say why nothing may start now, or None. A switch that cannot be read stops everything."""


class Tools(Protocol):
    """The tools of this executor."""

    def specs(self) -> Mapping[str, ToolSpec]:
        """Give the declarations by name."""

    def reads_files(self, name: str) -> bool:
        """Say whether the tool asks for the workspace at all."""

    async def call(
        self, name: str, args: Mapping[str, Any], workspace: Workspace, context: CallContext, timeout_seconds: float
    ) -> Any:
        """Run a tool and return its output as a JSON value; raises ToolError."""

    async def probe(
        self, name: str, args: Mapping[str, Any], workspace: Workspace, context: CallContext
    ) -> Happened | None:
        """Ask a checkable tool whether the action was done; raises ToolError."""


class Files(Protocol):
    """Brings the files of a task to this host, and the files a step wrote back."""

    def workspace(
        self, scope: TenantScope, task_id: str, manifest: list[Artifact]
    ) -> AbstractAsyncContextManager[Workspace]:
        """Materialise a workspace; it vanishes at the end of the block. Raises ClaimGone for a missing blob."""

    async def keep(self, scope: TenantScope, task_id: str, workspace: Workspace) -> list[Artifact]:
        """Store what the step wrote, and name it."""


class Values(Protocol):
    """JSON values that are too large to travel inside events or state."""

    async def put(self, scope: TenantScope, task_id: str, value: Any) -> str:
        """Store a value; returns its `blob:sha256/<hex>`."""

    async def get(self, scope: TenantScope, task_id: str, reference: str) -> Any:
        """Read a value back; raises ClaimGone."""
