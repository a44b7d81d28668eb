"""Each rule of the runtime, broken on purpose, is found within some hundred seeds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS

# the rarest shows in about one world of two hundred; the first that fails ends the search
MOST_SEEDS = 2_000


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_found(name: str):
    search = ["--broken", name, "--seeds", f"0:{MOST_SEEDS}", "--most", "1"]
    command = [sys.executable, "-m", "tests.simulation", *search]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"nobody noticed: {done.stdout}{done.stderr}"
    assert "again: python -m tests.simulation --seed" in done.stdout
