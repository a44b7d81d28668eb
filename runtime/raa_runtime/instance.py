"""The name of this process that restarts keep: as told, or the host's with a token kept in the data folder."""

import os
import secrets
import socket
from pathlib import Path
from typing import Final

from raa_runtime.errors import DependencyUnavailable

NAME_FILE: Final = "instance"


def instance_name(told: str, data: Path) -> str:
    """Name this process so that no other of its service has the name, and its next start has it again.

    Two replicas may share a host's name (and in containers even a pid), but not a data folder; without its folder a
    process is a new one, and what it left is taken over when its lease is over. Raises DependencyUnavailable.
    """
    return told or f"{socket.gethostname()}-{_token(data / NAME_FILE)}"


def _token(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x") as file:
                file.write(secrets.token_hex(4))
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            pass
        return path.read_text().strip() or secrets.token_hex(4)  # emptied by a power cut: a new one for this run
    except OSError as problem:
        raise DependencyUnavailable(f"{path}: {problem}; check the folder's space and permissions") from None
