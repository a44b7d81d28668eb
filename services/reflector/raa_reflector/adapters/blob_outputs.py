"""Outputs of steps as blobs of their task."""

from typing import Any, Final

from pydantic_core import from_json

from raa_runtime.blobs import BlobStore
from raa_runtime.errors import ClaimGone
from raa_runtime.scope import TenantScope

_PREFIX: Final = "blob:sha256/"


class BlobOutputs:
    """JSON outputs, each up to `max_bytes`."""

    def __init__(self, blobs: BlobStore, max_bytes: int) -> None:
        self._blobs = blobs
        self._max_bytes = max_bytes

    async def find(self, scope: TenantScope, task_id: str, reference: str) -> Any:
        if not reference.startswith(_PREFIX):
            raise ClaimGone(f"{reference!r} is no reference to a blob; it has to begin with {_PREFIX}")
        data = await self._blobs.head(scope, task_id, reference.removeprefix(_PREFIX), self._max_bytes + 1)
        return from_json(data) if len(data) <= self._max_bytes else None
