"""The tools of this process: the shipped ones and those of the user's files."""

from collections.abc import Mapping
from typing import Any

from raa_executor.tools.context import CallContext, Happened
from raa_executor.tools.registry import ToolRegistry, call, probe
from raa_executor.tools.workspace import Workspace
from raa_schemas.tool import ToolSpec


class RegistryTools:
    """A registry behind the port; its declarations are fixed once the process has started."""

    def __init__(self, registry: ToolRegistry) -> None:
        self._registry = registry
        self._specs = {spec.name: spec for spec in registry.specs()}

    def specs(self) -> Mapping[str, ToolSpec]:
        return self._specs

    def reads_files(self, name: str) -> bool:
        return name in self._specs and Workspace in self._registry.get(name).injected.values()

    async def call(
        self, name: str, args: Mapping[str, Any], workspace: Workspace, context: CallContext, timeout_seconds: float
    ) -> Any:
        return await call(self._registry, name, args, workspace, context, timeout_seconds=timeout_seconds)

    async def probe(
        self, name: str, args: Mapping[str, Any], workspace: Workspace, context: CallContext
    ) -> Happened | None:
        return await probe(self._registry, name, args, workspace, context)
