"""CPU of a whole family of processes, and their end."""

import sys
from pathlib import Path

import pytest

from benchmarks.processes import Child, RunFailed, cpu_seconds_of, family
from tests.waiting import wait_until

SPENDS = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def test_cpu_of_children_counts_while_they_run_and_after_they_ended(tmp_path: Path):
    spends_and_waits = SPENDS + "print(2, flush=True)\ntime.sleep(60)\n"
    script = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {SPENDS!r}])\n"
        "print(1, flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {spends_and_waits!r}])\n"
    )
    child = Child([sys.executable, "-c", script], {}, tmp_path / "log", talks=True)
    try:
        assert child.hear(20) == 1
        assert cpu_seconds_of([child.pid]) >= 0.28
        assert child.hear(20) == 2
        assert cpu_seconds_of([child.pid]) >= 0.56
        assert len(family([child.pid])) == 2
    finally:
        child.kill()


def test_a_process_that_ends_without_an_answer_is_reported_with_its_log(tmp_path: Path):
    child = Child([sys.executable, "-c", "raise SystemExit('no such broker')"], {}, tmp_path / "log", talks=True)
    with pytest.raises(RunFailed, match="no such broker"):
        child.hear(20)
    child.stop()


def test_stopping_ends_what_the_process_started(tmp_path: Path):
    script = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '60'])\nprint(1, flush=True)\ntime.sleep(60)\n"
    child = Child([sys.executable, "-c", script], {}, tmp_path / "log", talks=True)
    child.hear(20)
    members = family([child.pid])
    child.kill()
    assert len(members) == 2
    wait_until(lambda: not any(map(_runs, members)))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
