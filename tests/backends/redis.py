"""Redis as the distribution ships it, appending to a file in its own folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.backends.process import LOOPBACK, Server, answers, free_port, program, serve


@contextmanager
def redis(folder: Path, *, port: int | None = None) -> Iterator[Server]:
    """Run a server on `folder`; the address is a connection URL."""
    executable = program("redis-server", "redis-server")
    port = port or free_port()
    command = [executable, "--port", str(port), "--bind", LOOPBACK, "--dir", str(folder),
               "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]  # fmt: skip
    url = f"redis://{LOOPBACK}:{port}/0"
    with serve(command, address=url, folder=folder, ready=lambda: answers(port)) as server:
        yield server
