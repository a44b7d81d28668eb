"""The blob store on S3 and what speaks its protocol, through obstore.

Credentials and region come from the standard AWS variables, files and roles of the machine, as operators expect.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from raa_runtime.blobs import (
    CHUNK_BYTES,
    HEAD_BYTES,
    checked_hash,
    gone,
    hash_file,
    task_key,
    verified,
    whole_file_aside,
)
from raa_runtime.errors import ClaimGone, DependencyUnavailable, Misconfigured
from raa_runtime.scope import TenantScope

_KNOWN = {"endpoint", "region"}
_CONNECT = "3s"
# one request with its whole body, so this bounds the size of a blob times the slowness of the way
_REQUEST = "300s"
# the runtime tries again by itself, and knows for how long that makes sense
_RETRY = timedelta(seconds=10)


class S3Blobs:
    """A `BlobStore` in a bucket, below a prefix."""

    def __init__(self, url: str, deployment: str) -> None:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if unknown := query.keys() - _KNOWN:
            raise Misconfigured(f"RAA_BLOBS_URL: {min(unknown)!r} is unknown; there are endpoint and region")
        prefix = parts.path.strip("/")
        self._root = f"{prefix}/" if prefix else ""
        self._deployment = deployment
        try:
            self._store = _open(parts.netloc, query)
        except (BaseError, ValueError) as problem:
            raise Misconfigured(f"RAA_BLOBS_URL: {problem}") from None

    def _task(self, scope: TenantScope, task_id: str) -> str:
        return self._root + task_key(self._deployment, scope, task_id)

    def _key(self, scope: TenantScope, task_id: str, sha256: str) -> str:
        return f"{self._task(scope, task_id)}/{checked_hash(sha256)}"

    async def put(self, scope: TenantScope, task_id: str, data: bytes) -> str:
        """Store bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        async with _translated(task_id, sha256):
            await obstore.put_async(self._store, self._key(scope, task_id, sha256), data)
        return sha256

    async def put_file(self, scope: TenantScope, task_id: str, path: Path) -> tuple[str, int]:
        """Store a file; larger ones go in parts."""
        sha256, size = await asyncio.to_thread(hash_file, path)
        async with _translated(task_id, sha256):
            await obstore.put_async(self._store, self._key(scope, task_id, sha256), path)
        return sha256, size

    async def get(self, scope: TenantScope, task_id: str, sha256: str) -> bytes:
        """Read a blob."""
        async with _translated(task_id, sha256):
            found = await obstore.get_async(self._store, self._key(scope, task_id, sha256))
            data = bytes(await found.bytes_async())
        verified(task_id, sha256, hashlib.sha256(data).hexdigest())
        return data

    async def head(self, scope: TenantScope, task_id: str, sha256: str, size: int = HEAD_BYTES) -> bytes:
        """Read the first bytes of a blob."""
        key = self._key(scope, task_id, sha256)
        async with _translated(task_id, sha256):
            there = (await obstore.head_async(self._store, key))["size"]
            wanted = min(size, there)
            # S3 has no empty range
            data = bytes(await obstore.get_range_async(self._store, key, start=0, end=wanted)) if wanted else b""
        if wanted == there:
            verified(task_id, sha256, hashlib.sha256(data).hexdigest())
        return data

    async def fetch_to(self, scope: TenantScope, task_id: str, sha256: str, path: Path) -> None:
        """Copy a blob into a file."""
        hashing = hashlib.sha256()
        async with _translated(task_id, sha256):
            found = await obstore.get_async(self._store, self._key(scope, task_id, sha256))
            async with whole_file_aside(path) as target:
                async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                    hashing.update(chunk)
                    await asyncio.to_thread(target.write, chunk)
                verified(task_id, sha256, hashing.hexdigest())

    async def exists(self, scope: TenantScope, task_id: str, sha256: str) -> bool:
        """Say whether a blob is there."""
        try:
            async with _translated(task_id, sha256):
                await obstore.head_async(self._store, self._key(scope, task_id, sha256))
        except ClaimGone:
            return False
        return True

    async def delete_task(self, scope: TenantScope, task_id: str) -> None:
        """Delete the blobs of a task."""
        async with _translated(task_id, ""):
            async for batch in obstore.list(self._store, f"{self._task(scope, task_id)}/"):
                await obstore.delete_async(self._store, [entry["path"] for entry in batch])


def _open(bucket: str, query: dict[str, str]) -> S3Store:
    endpoint = query.get("endpoint")
    plain = bool(endpoint) and str(endpoint).startswith("http:")
    store: S3Store = S3Store(
        bucket,
        endpoint=endpoint,
        region=query.get("region"),
        virtual_hosted_style_request=endpoint is None,
        client_options={"allow_http": plain, "connect_timeout": _CONNECT, "timeout": _REQUEST},
        retry_config={"max_retries": 3, "retry_timeout": _RETRY},
    )
    return store


@asynccontextmanager
async def _translated(task_id: str, sha256: str) -> AsyncIterator[None]:
    """Turn obstore's errors into ours, here and nowhere else."""
    try:
        yield
    except (NotFoundError, FileNotFoundError):  # obstore raises the builtin one, and documents its own
        raise gone(task_id, sha256) from None
    except (PermissionDeniedError, UnauthenticatedError) as problem:
        raise Misconfigured(f"the blob store refuses: {problem}; check the AWS credentials of this process") from None
    except (BaseError, OSError) as problem:
        raise DependencyUnavailable(f"the blob store does not answer as it should: {problem}") from None
