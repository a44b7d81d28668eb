"""Files of tasks by their content: what is too large for an event lies here, and is deleted with its task."""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from raa_runtime.errors import ClaimGone, DependencyUnavailable, Misconfigured, PermanentError
from raa_runtime.scope import TenantScope
from raa_schemas.ids import is_task_id

T = TypeVar("T")
HEAD_BYTES = 65_536
CHUNK_BYTES = 1024 * 1024
# stands for the main deployment, whose id is empty; no deployment id begins like this
_MAIN = "_"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobStore(Protocol):
    """Content-addressed bytes below deployment/tenant/task.

    `sha256` is 64 hexadecimal digits. Whoever reads gets what was written, verified by its hash, or ClaimGone;
    DependencyUnavailable means that the store does not answer or is full.
    """

    async def put(self, scope: TenantScope, task_id: str, data: bytes) -> str:
        """Store bytes durably; returns their hash. Storing the same again changes nothing."""
        ...

    async def put_file(self, scope: TenantScope, task_id: str, path: Path) -> tuple[str, int]:
        """Store a file in bounded memory; returns hash and size."""
        ...

    async def get(self, scope: TenantScope, task_id: str, sha256: str) -> bytes:
        """Read all of it."""
        ...

    async def head(self, scope: TenantScope, task_id: str, sha256: str, size: int = HEAD_BYTES) -> bytes:
        """Read its first bytes; these are verified only when they are all there is."""
        ...

    async def fetch_to(self, scope: TenantScope, task_id: str, sha256: str, path: Path) -> None:
        """Copy it into a file in bounded memory; the file is there whole or not at all."""
        ...

    async def exists(self, scope: TenantScope, task_id: str, sha256: str) -> bool:
        """Say whether it is there."""
        ...

    async def delete_task(self, scope: TenantScope, task_id: str) -> None:
        """Delete everything of a task; nothing there is fine."""
        ...


def open_blobs(url: str, deployment: str) -> BlobStore:
    """Open `file:<folder>` or `s3://bucket/prefix?endpoint=…&region=…`; raises Misconfigured."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return LocalBlobs(Path(unquote(parts.path)), deployment)
    if parts.scheme == "s3" and parts.netloc:
        from raa_runtime.blobs_s3 import S3Blobs

        return S3Blobs(url, deployment)
    raise Misconfigured(f"RAA_BLOBS_URL {url!r} is neither file:<folder> nor s3://bucket/prefix?endpoint=<url>")


def task_key(deployment: str, scope: TenantScope, task_id: str) -> str:
    """Name the place of a task's blobs; raises PermanentError for what is no task id."""
    if not is_task_id(task_id):
        raise PermanentError(f"{task_id[:140]!r} is no task id")
    return f"{deployment or _MAIN}/{scope.tenant}/{task_id}"


def checked_hash(sha256: str) -> str:
    """Accept 64 hexadecimal digits; anything else never was the name of a blob."""
    if not _SHA256.fullmatch(sha256):
        raise ClaimGone(f"{sha256[:80]!r} is no content hash; give 64 hexadecimal digits")
    return sha256


def gone(task_id: str, sha256: str) -> ClaimGone:
    """Build the error for a blob that is not there."""
    return ClaimGone(f"the blob {sha256} of task {task_id} is gone; it was deleted with its task, or never stored")


def verified(task_id: str, sha256: str, found: str) -> None:
    """Raise ClaimGone unless what was read has the hash that was asked for."""
    if found != sha256:
        raise ClaimGone(f"the blob {sha256} of task {task_id} was altered: its content has the hash {found}")


def hash_file(path: Path) -> tuple[str, int]:
    """Hash a file in bounded memory; returns hash and size."""
    with path.open("rb") as source:
        hashing = hashlib.file_digest(source, "sha256")
        return hashing.hexdigest(), source.tell()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that appears under its name complete and on disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with arriving.open("xb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        arriving.replace(path)
        _sync_folder(path.parent)
    finally:
        arriving.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def whole_file_aside(path: Path) -> AsyncIterator[BinaryIO]:
    """Do the same from the event loop, with the waiting for the disk in a thread."""
    file = whole_file(path)
    target = await asyncio.to_thread(file.__enter__)
    try:
        yield target
    except BaseException as problem:
        await asyncio.to_thread(file.__exit__, type(problem), problem, problem.__traceback__)
        raise
    await asyncio.to_thread(file.__exit__, None, None, None)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; only POSIX can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class LocalBlobs:
    """A `BlobStore` in a folder; a folder that several hosts share is one, too."""

    def __init__(self, root: Path, deployment: str) -> None:
        self._root = root
        self._deployment = deployment

    def _task(self, scope: TenantScope, task_id: str) -> Path:
        return self._root / task_key(self._deployment, scope, task_id)

    def _path(self, scope: TenantScope, task_id: str, sha256: str) -> Path:
        return self._task(scope, task_id) / checked_hash(sha256)

    async def put(self, scope: TenantScope, task_id: str, data: bytes) -> str:
        """Store bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(scope, task_id, sha256)
        await _in_thread(lambda: _write(path, data))
        return sha256

    async def put_file(self, scope: TenantScope, task_id: str, path: Path) -> tuple[str, int]:
        """Store a file."""
        folder = self._task(scope, task_id)
        return await _in_thread(lambda: _take_in(folder, path))

    async def get(self, scope: TenantScope, task_id: str, sha256: str) -> bytes:
        """Read a blob."""
        path = self._path(scope, task_id, sha256)
        data = await _reading(path.read_bytes, task_id, sha256)
        verified(task_id, sha256, hashlib.sha256(data).hexdigest())
        return data

    async def head(self, scope: TenantScope, task_id: str, sha256: str, size: int = HEAD_BYTES) -> bytes:
        """Read the first bytes of a blob."""
        path = self._path(scope, task_id, sha256)
        data = await _reading(lambda: _first_bytes(path, size + 1), task_id, sha256)
        if len(data) <= size:
            verified(task_id, sha256, hashlib.sha256(data).hexdigest())
        return data[:size]

    async def fetch_to(self, scope: TenantScope, task_id: str, sha256: str, path: Path) -> None:
        """Copy a blob into a file."""
        source = self._path(scope, task_id, sha256)
        if not await self.exists(scope, task_id, sha256):
            raise gone(task_id, sha256)
        await _in_thread(lambda: _copy_out(source, path, task_id))

    async def exists(self, scope: TenantScope, task_id: str, sha256: str) -> bool:
        """Say whether a blob is there."""
        return await _in_thread(self._path(scope, task_id, sha256).is_file)

    async def delete_task(self, scope: TenantScope, task_id: str) -> None:
        """Delete the blobs of a task."""
        folder = self._task(scope, task_id)
        await _in_thread(lambda: _remove(folder))


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as problem:
        raise DependencyUnavailable(f"blobs: {problem}; check the folder's space and permissions") from problem


async def _reading(work: Callable[[], bytes], task_id: str, sha256: str) -> bytes:
    try:
        return await _in_thread(work)
    except DependencyUnavailable as problem:
        if isinstance(problem.__cause__, FileNotFoundError):
            raise gone(task_id, sha256) from None
        raise


def _write(path: Path, data: bytes) -> None:
    if not _is_there(path, len(data)):
        with whole_file(path) as target:
            target.write(data)


def _is_there(path: Path, size: int) -> bool:
    # a blob is renamed into place only when it is whole, so its size tells enough
    return path.is_file() and path.stat().st_size == size


def _take_in(folder: Path, source: Path) -> tuple[str, int]:
    """Copy and hash in one pass: a file that changes meanwhile is stored under the hash of what was stored."""
    arriving = folder / f".{uuid.uuid4().hex}"
    try:
        with source.open("rb") as reader, whole_file(arriving) as target:
            sha256, size = _copy(reader, target)
        arriving.replace(folder / sha256)
        _sync_folder(folder)
    finally:
        arriving.unlink(missing_ok=True)
    return sha256, size


def _copy_out(source: Path, path: Path, task_id: str) -> None:
    with source.open("rb") as reader, whole_file(path) as target:
        found, _ = _copy(reader, target)
        verified(task_id, source.name, found)


def _copy(reader: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    hashing = hashlib.sha256()
    size = 0
    while chunk := reader.read(CHUNK_BYTES):
        hashing.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return hashing.hexdigest(), size


def _first_bytes(path: Path, size: int) -> bytes:
    with path.open("rb") as source:
        return source.read(size)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
