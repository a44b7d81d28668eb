"""Large JSON values as blobs of their task."""

import json
from typing import Any, Final

from raa_runtime.blobs import BlobStore
from raa_runtime.errors import ClaimGone
from raa_runtime.scope import TenantScope
from raa_schemas.canonical import canonical_bytes

_PREFIX: Final = "blob:sha256/"


class BlobValues:
    """JSON values by the hash of their canonical form."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def put(self, scope: TenantScope, task_id: str, value: Any) -> str:
        return _PREFIX + await self._blobs.put(scope, task_id, canonical_bytes(value))

    async def get(self, scope: TenantScope, task_id: str, reference: str) -> Any:
        if not reference.startswith(_PREFIX):
            raise ClaimGone(f"{reference!r} is no reference to a blob; it has to begin with {_PREFIX}")
        return json.loads(await self._blobs.get(scope, task_id, reference.removeprefix(_PREFIX)))
