"""Processes of a benchmark: started in groups of their own, their CPU and memory read from /proc, ended by id."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

_TICK = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 10.0
ROOT = Path(__file__).parent.parent


class RunFailed(RuntimeError):
    """A process of a benchmark ended or fell silent; the message ends with its log."""


def family(roots: Collection[int]) -> set[int]:
    """Name these processes and everything they started that still runs."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in _all():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return found


def cpu_seconds_of(roots: Collection[int]) -> float:
    """Give user and system time of these processes and all they started, ended ones too once they were reaped."""
    members = family(roots)
    return sum(ticks for pid, _, ticks in _all() if pid in members) / _TICK


def memory_mb_of(roots: Collection[int]) -> float:
    """Give the memory of these processes and all they started in MB; shared pages are divided by their sharers."""
    return round(sum(map(_own_kilobytes, family(roots))) / 1000, 1)


def _own_kilobytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def _all() -> list[tuple[int, int, int]]:
    """List pid, parent and clock ticks (with those of reaped children) of every process there is."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = Path(entry.path, "stat").read_text()
                # the name in parentheses may hold anything
                fields = line.rpartition(")")[2].split()
                found.append((int(entry.name), int(fields[1]), sum(map(int, fields[11:15]))))
    return found


class Child:
    """A process of ours, in a group of its own, that ends when we do; its standard error goes to a file."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, talks: bool = False
    ) -> None:
        self._log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAA_", "OPENAI_"))}
        setpriv = shutil.which("setpriv")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*((setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()), *command],
                cwd=ROOT,
                env=kept | dict(environment),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Give its process id."""
        return self.process.pid

    def say(self, words: Any) -> None:
        """Tell it something, as one JSON line."""
        if self.process.stdin is None:
            raise RuntimeError("it was started without talks=True")
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, seconds: float) -> Any:
        """Wait for its next JSON line; raises RunFailed when none comes."""
        if self.process.stdout is None:
            raise RuntimeError("it was started without talks=True")
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if readable else b""
        if not line:
            raise RunFailed(f"{self.process.args!r} ended, or said nothing for {seconds} s:\n{self._tail()}")
        return json.loads(line)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2_000:]

    def check(self) -> None:
        """Raise RunFailed if it ended."""
        if self.process.poll() is not None:
            raise RunFailed(f"{self.process.args!r} ended with {self.process.returncode}:\n{self._tail()}")

    def kill(self) -> None:
        """End it and its group as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def stop(self) -> None:
        """Ask it to end, and insist."""
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        elif self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.kill()


def wait_until_quiet(most: float, seconds: float) -> float:
    """Wait, no longer than so many seconds, until the machine's load is low; gives the load average."""
    end = time.monotonic() + seconds
    while (load := os.getloadavg()[0]) > most and time.monotonic() < end:
        time.sleep(1)
    return load
