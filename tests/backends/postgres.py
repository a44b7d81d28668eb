"""PostgreSQL as the distribution ships it: a private cluster on a free port, commits synced as by default."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.backends.process import LOOPBACK, BackendMissing, Server, answers, free_port, serve

_USER = "postgres"
_DEBIAN = Path("/usr/lib/postgresql")


@contextmanager
def postgres(folder: Path, *, port: int | None = None) -> Iterator[Server]:
    """Run a server on `folder`, which must lie where the system's user `postgres` may go if we are root."""
    initdb, server = _program("initdb"), _program("postgres")
    port = port or free_port()
    data = folder / "data"
    if not data.exists():
        data.mkdir(parents=True)
        _give_away(folder, data)
        subprocess.run(
            [*_as_user(), initdb, "-D", data, "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "-U", "raa"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    command = [*_as_user(), server, "-D", str(data), "-p", str(port), "-h", LOOPBACK, "-k", str(folder)]
    uri = f"postgresql://raa@{LOOPBACK}:{port}/postgres"
    with serve(command, address=uri, folder=folder, ready=lambda: answers(port)) as running:
        yield running
        running.process.send_signal(signal.SIGINT)  # a fast shutdown: SIGTERM would wait for every client


def _program(name: str) -> str:
    """Find a server program: Debian keeps it off the path, by version."""
    newest = max(_DEBIAN.glob(f"*/bin/{name}"), default=None)
    found = str(newest) if newest else shutil.which(name)
    if found is None:
        raise BackendMissing(f"no {name}; apt-get install postgresql")
    return found


def _as_user() -> Sequence[str]:
    """Prefix a command: PostgreSQL refuses to run as root.

    A change of user forgets the parent-death signal, so it is set again.
    """
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", "--pdeathsig=INT", "--")


def _give_away(*folders: Path) -> None:
    if os.geteuid() == 0:
        for folder in folders:
            shutil.chown(folder, _USER, _USER)
