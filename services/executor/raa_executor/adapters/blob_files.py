"""Workspaces out of blobs: each file is copied to this host once per task, and read from there by every step."""

import asyncio
import contextlib
import mimetypes
import shutil
import uuid
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from raa_executor.tools.workspace import Workspace
from raa_runtime.blobs import BlobStore
from raa_runtime.scope import TenantScope
from raa_schemas.artifact import Artifact

_READ_ONLY: Final = 0o444


class BlobFiles:
    """Files of tasks below `folder`, whose cache keeps at most about `limit_bytes`.

    The cache is keyed like the blobs, by tenant and task too: a hash alone must not open another tenant's file.
    """

    def __init__(self, blobs: BlobStore, folder: Path, limit_bytes: int) -> None:
        self._blobs = blobs
        self._cache = folder / "files"
        self._steps = folder / "steps"
        self._limit = limit_bytes
        self._opened = False
        self._bytes = 0
        self._kept: OrderedDict[Path, int] = OrderedDict()
        self._used: Counter[Path] = Counter()
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def workspace(self, scope: TenantScope, task_id: str, manifest: list[Artifact]) -> AsyncIterator[Workspace]:
        self._open()
        folder = self._steps / uuid.uuid4().hex
        files = {artifact.name: self._place(scope, task_id, artifact.sha256) for artifact in manifest}
        self._used.update(files.values())
        try:
            for artifact in manifest:
                await self._fetch(scope, task_id, artifact, files[artifact.name])
            yield Workspace(folder, files)
        finally:
            self._used -= Counter(files.values())
            self._evict()
            shutil.rmtree(folder, ignore_errors=True)

    async def keep(self, scope: TenantScope, task_id: str, workspace: Workspace) -> list[Artifact]:
        kept = []
        for name, path in sorted(workspace.changed().items()):
            sha256, size = await self._blobs.put_file(scope, task_id, path)
            kept.append(Artifact(name=name, sha256=sha256, size=size, media_type=mimetypes.guess_type(name)[0]))
        return kept

    def _place(self, scope: TenantScope, task_id: str, sha256: str) -> Path:
        return self._cache / scope.tenant / task_id / sha256

    def _open(self) -> None:
        """Take over what an earlier process left: cached files stay, half-done steps go."""
        if self._opened:
            return
        self._opened = True
        shutil.rmtree(self._steps, ignore_errors=True)
        self._cache.mkdir(parents=True, exist_ok=True)
        found = [(path, path.stat()) for path in self._cache.rglob("*") if path.is_file()]
        for path, status in sorted(found, key=lambda item: item[1].st_mtime):
            self._remember(path, status.st_size)

    def _remember(self, path: Path, size: int) -> None:
        self._bytes += size - self._kept.get(path, 0)
        self._kept[path] = size
        self._kept.move_to_end(path)

    async def _fetch(self, scope: TenantScope, task_id: str, artifact: Artifact, path: Path) -> None:
        lock = self._locks.setdefault(path, asyncio.Lock())
        async with lock:
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                arriving = path.with_name(f".{uuid.uuid4().hex}")
                try:
                    await self._blobs.fetch_to(scope, task_id, artifact.sha256, arriving)
                    arriving.chmod(_READ_ONLY)
                    arriving.replace(path)
                finally:
                    arriving.unlink(missing_ok=True)
            self._remember(path, artifact.size)

    def _evict(self) -> None:
        for path in [path for path in self._kept if path not in self._used] if self._bytes > self._limit else ():
            if self._bytes <= self._limit:
                return
            self._bytes -= self._kept.pop(path)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other files of the task may still be there
                path.parent.rmdir()
