"""F22: a disk that is full makes a stack unready and breaks nothing; with space again it goes on by itself."""

import asyncio
import ctypes
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, together, until

TASKS: Final = 200 if LONG else 15
ROUNDS: Final = 5 if LONG else 1
FULL_SECONDS: Final = 30.0 if LONG else 6.0
ENDS_SECONDS: Final = 120
_CLONE_NEWNS: Final = 0x00020000
_SIZE: Final = "512m" if LONG else "64m"  # a thousand tasks leave about 50 MB


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a little memory on a folder, for this process and those it starts only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        pytest.skip(f"a mount of one's own is not permitted here: {os.strerror(ctypes.get_errno())}; run it as root")
    folder.mkdir()
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte; gives the file to delete for space."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


async def without_space(trial: Trial, disk: Path, number: int) -> None:
    """Fill the disk in the middle of a load, and make room again."""
    load = trial.load()
    before = len(trial.calls())
    await load.submit(mixed(TASKS, f"d{number}-", seconds=0.5))
    await until(lambda: len(trial.calls()) - before > TASKS // 4)
    ballast = fill(disk)
    more = asyncio.create_task(load.submit(mixed(TASKS, f"e{number}-")))
    await asyncio.sleep(FULL_SECONDS)
    assert trial.house.alive(), trial.house.logs()
    ballast.unlink()
    async with asyncio.timeout(ENDS_SECONDS):
        await more
    await load.until_ended(seconds=ENDS_SECONDS)


def corrupt(data: Path) -> list[str]:
    """Name the files whose integrity SQLite denies."""
    broken = []
    for path in sorted(data.rglob("*.sqlite")):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        told = connection.execute("PRAGMA integrity_check").fetchone()[0]
        connection.close()
        broken += [f"{path.name}: {told}"] if told != "ok" else []
    return broken


def test_a_full_disk_breaks_nothing_and_work_goes_on_with_space_again(place: Path, report: list[Row]) -> None:
    disk = place / "data"  # what the deployment keeps; its far side has space
    with small_disk(disk), together(place, lease_seconds="2") as trial:
        trial.house.start()
        for number in range(ROUNDS):
            asyncio.run(without_space(trial, disk, number))
        row = asyncio.run(judged(trial, "F22", "embedded+sqlite", f"disk full for {FULL_SECONDS:g} s"))
        broken = corrupt(disk)
    report.append(
        Row(row.id, row.where, row.injected, {**row.figures, "corrupt": len(broken)}, row.violations + broken)
    )
    assert broken == []
    check(row, 2 * TASKS * ROUNDS)
