"""The floor under a simulated process: the ports of a `Platform` without threads, sockets, disks or real time."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from raa_runtime.blobs import HEAD_BYTES, checked_hash, gone, hash_file, task_key
from raa_runtime.platform import Platform
from raa_runtime.scope import TenantScope

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from raa_runtime.telemetry import Logger

Told = Callable[[str, str, dict[str, Any]], None]


class Absent:
    """Something a simulated process has to do without: whoever touches it learns that."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> NoReturn:
        raise NotImplementedError(f"a simulated process has no {self._what}; give it a port of its own")


class SimulatedLogger:
    """A logger that tells the world; most runs nobody reads it."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def bind(self, **_: Any) -> "SimulatedLogger":
        """Stay as it is."""
        return self

    def debug(self, event: str, **facts: Any) -> None:
        """Tell nobody."""

    def info(self, event: str, **facts: Any) -> None:
        """Tell the world."""
        self._told("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Tell the world."""
        self._told("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Tell the world."""
        self._told("error", event, facts)

    def critical(self, event: str, **facts: Any) -> None:
        """Tell the world."""
        self._told("critical", event, facts)


class SimulatedPlatform(Platform):
    """A `Platform` whose keys follow from their names, and whose log goes to the world."""

    told: Told

    def logger(self, service: str) -> "Logger":
        """Give the logger of a service."""
        return cast("Logger", SimulatedLogger(self.told))

    def keys(self, name: str) -> "Ed25519PrivateKey":
        """Give the signing key of this name, the same in every run."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


class SimulatedBlobs:
    """A `BlobStore` in memory, shared by all processes of a world."""

    def __init__(self, deployment: str = "") -> None:
        self._deployment = deployment
        self._blobs: dict[tuple[str, str], bytes] = {}

    def _place(self, scope: TenantScope, task_id: str, sha256: str) -> tuple[str, str]:
        return task_key(self._deployment, scope, task_id), checked_hash(sha256)

    async def put(self, scope: TenantScope, task_id: str, data: bytes) -> str:
        """Store bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._blobs[self._place(scope, task_id, sha256)] = data
        return sha256

    async def put_file(self, scope: TenantScope, task_id: str, path: Path) -> tuple[str, int]:
        """Store a file."""
        sha256, size = hash_file(path)
        self._blobs[self._place(scope, task_id, sha256)] = path.read_bytes()
        return sha256, size

    async def get(self, scope: TenantScope, task_id: str, sha256: str) -> bytes:
        """Read all of it."""
        data = self._blobs.get(self._place(scope, task_id, sha256))
        if data is None:
            raise gone(task_id, sha256)
        return data

    async def head(self, scope: TenantScope, task_id: str, sha256: str, size: int = HEAD_BYTES) -> bytes:
        """Read its first bytes."""
        return (await self.get(scope, task_id, sha256))[:size]

    async def fetch_to(self, scope: TenantScope, task_id: str, sha256: str, path: Path) -> None:
        """Copy it into a file."""
        path.write_bytes(await self.get(scope, task_id, sha256))

    async def exists(self, scope: TenantScope, task_id: str, sha256: str) -> bool:
        """Say whether it is there."""
        return self._place(scope, task_id, sha256) in self._blobs

    async def delete_task(self, scope: TenantScope, task_id: str) -> None:
        """Delete everything of a task."""
        key = task_key(self._deployment, scope, task_id)
        self._blobs = {place: data for place, data in self._blobs.items() if place[0] != key}
