"""Start a server process with its own folder and port, wait until it answers, and stop it by its id."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


class BackendMissing(RuntimeError):
    """This machine cannot run the backend; the message says what is missing and what brings it."""


class BackendFailed(RuntimeError):
    """The backend was started and did not come up; the message ends with its log."""


@dataclass(frozen=True)
class Server:
    """A running server: where clients reach it, and the process behind it."""

    address: str
    folder: Path
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End it as a power cut would, for tests of what survives."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Let it stand still: it takes connections and bytes, and answers nothing; returns when all of it stands."""
        self.process.send_signal(signal.SIGSTOP)
        # a signal reaches the threads of a process one by one, and on a busy machine some answer for a while
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask it to end, and insist after some seconds; a process that ended already is fine."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def program(name: str, package: str) -> str:
    """Find an executable on the path; `package` is the Debian package that brings it."""
    found = shutil.which(name)
    if found is None:
        message = f"no {name} on the path; apt-get install {package}"
        raise BackendMissing(message)
    return found


def free_port() -> int:
    """Pick a port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether something accepts connections on a loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def serve(command: Sequence[str], *, address: str, folder: Path, ready: Callable[[], bool]) -> Iterator[Server]:
    """Run a server while the block runs; its output goes to `server.log` in its folder.

    Raises:
        BackendFailed: the port is taken, it ended, or it was not ready in time.
    """
    if ready():
        message = f"another server already listens where {address} should; stop it or name another port"
        raise BackendFailed(message)
    server = launch(command, address=address, folder=folder)
    try:
        wait_for(ready, server)
        yield server
    finally:
        server.stop()


def launch(command: Sequence[str], *, address: str, folder: Path) -> Server:
    """Start a server and return at once; whoever starts several waits for all of them together."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAVA_TOOL")}
    with (folder / "server.log").open("ab") as output:
        process = subprocess.Popen(
            [*_end_with_us(), *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    return Server(address, folder, process)


def _end_with_us() -> tuple[str, ...]:
    """Prefix a command so that a test run that is killed leaves no server behind (Linux; elsewhere it may)."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def wait_for(ready: Callable[[], bool], server: Server) -> None:
    """Return when a launched server is ready.

    Raises:
        BackendFailed: it ended, or was not ready in time.
    """
    end = time.monotonic() + _START_SECONDS
    while not ready():
        if server.process.poll() is not None or time.monotonic() > end:
            tail = (server.folder / "server.log").read_text(errors="replace")[-2000:]
            message = f"{server.process.args!r} did not come up:\n{tail}"
            raise BackendFailed(message)
        time.sleep(0.05)


def python() -> str:
    """Name the interpreter that runs the tests, for servers that are Python modules."""
    return sys.executable
