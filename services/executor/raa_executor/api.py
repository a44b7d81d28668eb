"""HTTP of the executor: which tools it offers."""

from collections.abc import Mapping

from fastapi import APIRouter

from raa_schemas.canonical import digest
from raa_schemas.tool import ToolList, ToolSpec


def routes(tools: Mapping[str, ToolSpec]) -> APIRouter:
    """Make the routes."""
    router = APIRouter()
    listing = tool_list(tools)

    @router.get("/v1/tools")
    async def list_tools() -> ToolList:
        """List the declarations of all tools, sorted by name."""
        return listing

    return router


def tool_list(tools: Mapping[str, ToolSpec]) -> ToolList:
    """List declarations; the digest changes when any of them does."""
    specs = [tools[name] for name in sorted(tools)]
    return ToolList(tools=specs, digest=digest([spec.model_dump(mode="json") for spec in specs]))
