"""One owner per data folder."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from raa_runtime.errors import Misconfigured


class FolderLock:
    """Hold a data folder, or one service's part of it; the file names the owner's pid.

    The kernel lets go of it when the process ends.
    """

    def __init__(self, folder: Path, service: str | None = None) -> None:
        self._path = folder / f"{service or 'raa'}.lock"
        self._what = f"the service {service}" if service else "a stack"

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Python opens it close-on-exec: a tool's process does not inherit the lock
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            raise Misconfigured(f"{self._path}: {problem.strerror}; name a folder of your own with --data") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise Misconfigured(
                f"process {owner} already runs {self._what} on {self._path.parent}; "
                "use that one, stop it, or name another folder with --data (RAA_DATA)"
            ) from None
        except OSError as problem:
            os.close(self._file)
            raise Misconfigured(
                f"{self._path}: its file system has no locks ({problem.strerror}); "
                "name a folder on a local disk with --data"
            ) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
