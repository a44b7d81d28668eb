"""Run the long forms: what mostly waits beside what keeps the machine busy, which halves the time of both.

python -m tests.faults              all faults, and the simulator
python -m tests.faults -k f04       what goes to pytest
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
RUNS: Final = {"patient": [FOLDER], "not patient": [FOLDER, FOLDER.parent / "simulation"]}
NOTHING_CHOSEN: Final = 5


def run(chosen: str, folders: list[Path], more: list[str]) -> int:
    """Run pytest on what is marked so, and pass on what it says as it comes; gives its exit code."""
    command = [sys.executable, "-m", "pytest", "-v", "-s", "-m", chosen, *map(str, folders), *more]
    environment = os.environ | {"RAA_FAULTS": "long", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as running:
        for line in running.stdout or ():
            sys.stdout.write(f"{chosen:<11} | {line}")
            sys.stdout.flush()
    return running.returncode


def main() -> int:
    """Run both; 0 if nothing failed and something ran."""
    more = sys.argv[1:]
    with ThreadPoolExecutor(len(RUNS)) as pool:
        codes = list(pool.map(lambda chosen: run(chosen, RUNS[chosen], more), RUNS))
    ran = [code for code in codes if code != NOTHING_CHOSEN]
    return max(ran, default=NOTHING_CHOSEN)


if __name__ == "__main__":
    sys.exit(main())
