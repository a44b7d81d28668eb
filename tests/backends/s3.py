"""S3 by moto's server: conditional create, multipart and presigned URLs behave, credentials are not checked."""

import importlib.util
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.backends.process import LOOPBACK, BackendMissing, Server, answers, free_port, python, serve

BUCKET = "raa"
ACCESS_KEY = "tests"  # and the secret, too


@contextmanager
def s3(folder: Path, *, port: int | None = None) -> Iterator[Server]:
    """Run a server that holds the empty bucket BUCKET; the address is its endpoint."""
    if importlib.util.find_spec("moto") is None:
        message = "no moto in this environment; make test installs it"
        raise BackendMissing(message)
    port = port or free_port()
    endpoint = f"http://{LOOPBACK}:{port}"
    command = [python(), "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
    with serve(command, address=endpoint, folder=folder, ready=lambda: answers(port)) as server:
        create_bucket(endpoint)
        yield server


def create_bucket(endpoint: str, name: str = BUCKET) -> None:
    """Create a bucket; one that exists already is fine."""
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
