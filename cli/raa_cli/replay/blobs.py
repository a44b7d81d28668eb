"""Blobs of a sandbox: what it writes is its own, what it does not have is read from the original."""

from pathlib import Path

from raa_runtime.blobs import HEAD_BYTES, BlobStore
from raa_runtime.scope import TenantScope


class OverlaidBlobs:
    """A `BlobStore` that writes to one store and reads from two."""

    def __init__(self, own: BlobStore, original: BlobStore) -> None:
        self._own = own
        self._original = original

    async def put(self, scope: TenantScope, task_id: str, data: bytes) -> str:
        """Store bytes in the sandbox."""
        return await self._own.put(scope, task_id, data)

    async def put_file(self, scope: TenantScope, task_id: str, path: Path) -> tuple[str, int]:
        """Store a file in the sandbox."""
        return await self._own.put_file(scope, task_id, path)

    async def get(self, scope: TenantScope, task_id: str, sha256: str) -> bytes:
        """Read all of it."""
        return await (await self._holder(scope, task_id, sha256)).get(scope, task_id, sha256)

    async def head(self, scope: TenantScope, task_id: str, sha256: str, size: int = HEAD_BYTES) -> bytes:
        """Read its first bytes."""
        return await (await self._holder(scope, task_id, sha256)).head(scope, task_id, sha256, size)

    async def fetch_to(self, scope: TenantScope, task_id: str, sha256: str, path: Path) -> None:
        """Copy it into a file."""
        await (await self._holder(scope, task_id, sha256)).fetch_to(scope, task_id, sha256, path)

    async def exists(self, scope: TenantScope, task_id: str, sha256: str) -> bool:
        """Say whether either has it."""
        holder = await self._holder(scope, task_id, sha256)
        return holder is self._own or await self._original.exists(scope, task_id, sha256)

    async def delete_task(self, scope: TenantScope, task_id: str) -> None:
        """Delete what the sandbox wrote for a task, and nothing else."""
        await self._own.delete_task(scope, task_id)

    async def _holder(self, scope: TenantScope, task_id: str, sha256: str) -> BlobStore:
        return self._own if await self._own.exists(scope, task_id, sha256) else self._original
