"""Toxiproxy: a TCP proxy between a client and a server that delays, cuts, resets and swallows on demand."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends.cache import fill, filled, recipe_folder
from tests.backends.process import LOOPBACK, Server, answers, free_port, program, serve

_VERSION_FILE = "toxiproxy.version"
_SECONDS = 10


def _folder() -> Path:
    return recipe_folder("toxiproxy", _VERSION_FILE)


def fill_toxiproxy() -> Path:
    """Build the proxy from the Go module proxy, once per user."""
    program("go", "golang-go")
    return fill(_folder(), _make)


def _make(folder: Path) -> None:
    version = (Path(__file__).parent / _VERSION_FILE).read_text().strip()
    source = f"github.com/Shopify/toxiproxy/v2/cmd/server@{version}"
    subprocess.run(["go", "install", source], check=True, env={**os.environ, "GOBIN": str(folder), "GOFLAGS": ""})


@contextmanager
def toxiproxy(folder: Path) -> Iterator[Server]:
    """Run the proxy server; its address is that of its HTTP interface, which `Proxy` speaks."""
    executable = filled(_folder()) / "server"
    port = free_port()
    command = [str(executable), "-host", LOOPBACK, "-port", str(port)]
    with serve(command, address=f"http://{LOOPBACK}:{port}", folder=folder, ready=lambda: answers(port)) as server:
        yield server


@dataclass(frozen=True)
class Proxy:
    """One proxied port: clients connect to `port`, and the faults set here happen on the way to `upstream`."""

    api: str
    name: str
    port: int
    upstream: str

    @classmethod
    def between(cls, api: str, name: str, upstream: str, port: int | None = None) -> "Proxy":
        """Open a port that leads to `upstream` (`host:port`)."""
        port = port or free_port()
        proxy = cls(api, name, port, upstream)
        proxy._call("POST", "/proxies", {"name": name, "listen": f"{LOOPBACK}:{port}", "upstream": upstream})
        return proxy

    @property
    def address(self) -> str:
        """Give `host:port` for clients."""
        return f"{LOOPBACK}:{self.port}"

    def close(self) -> None:
        """Refuse new connections and cut those there are, until `open`."""
        self._call("POST", f"/proxies/{self.name}", {"enabled": False})

    def open(self) -> None:
        """Let connections through again."""
        self._call("POST", f"/proxies/{self.name}", {"enabled": True})

    def lead_to(self, upstream: str) -> None:
        """Cut the connections there are, and lead new ones elsewhere (`host:port`)."""
        self._call("POST", f"/proxies/{self.name}", {"upstream": upstream, "enabled": True})

    def fault(self, kind: str, *, stream: str = "downstream", **attributes: int) -> str:
        """Start a fault, for example `latency` with latency and jitter in ms; gives the name that `heal` takes.

        `timeout` with timeout=0 swallows all data and keeps the connection, `reset_peer` resets it after timeout ms,
        `limit_data` cuts it after that many bytes, `bandwidth` has a rate in KB/s. `downstream` is what clients get.
        """
        name = f"{kind}-{stream}"
        self._call(
            "POST",
            f"/proxies/{self.name}/toxics",
            {"name": name, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes},
        )
        return name

    def heal(self, fault: str) -> None:
        """End a fault."""
        self._call("DELETE", f"/proxies/{self.name}/toxics/{fault}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.api + path, data, {"Content-Type": "application/json"}, method=method)
        urllib.request.urlopen(request, timeout=_SECONDS).close()
