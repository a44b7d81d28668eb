"""Run benchmarks, one after another, and rewrite the tables of docs/performance.md.

    python -m benchmarks                          all of them
    python -m benchmarks B1 B3 --rounds 3         some
    python -m benchmarks B1 --peers faststream    ours beside these peers only
    python -m benchmarks --quick                  a quarter of the work in 2 rounds, to see that everything runs
    python -m benchmarks tables                   only the tables, from benchmarks/results/

Figures are only worth something on a machine that does nothing else.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module

from benchmarks.measure import run_alone
from benchmarks.options import Options, say
from benchmarks.processes import RunFailed
from benchmarks.tables import rewrite
from tests.backends.process import BackendFailed, BackendMissing


def _load(module: str, options: Options) -> None:
    import_module(f"benchmarks.{module}").main(options)


def _alone(module: str, _: Options) -> None:
    run_alone(module)


ALL: dict[str, Callable[[Options], None]] = {
    "B0": partial(_load, "b0"),
    "B1": partial(_load, "b1"),
    "B2": partial(_load, "b2"),
    "B3": partial(_load, "b3"),
    "B4": partial(_load, "b4"),
    "B12": partial(_load, "b12"),
    "B13": partial(_alone, "hot_path"),
    "floor": partial(_alone, "floor"),
    "tasks": partial(_alone, "tasks"),
}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(ALL)}, tables; all if none is named")
    parser.add_argument("--rounds", type=int, help="interleaved rounds; 5 if not given")
    parser.add_argument("--peers", default="", help="parts of peers' names, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a quarter of the work in 2 rounds")
    asked = parser.parse_args()
    names = [{known.lower(): known for known in (*ALL, "tables")}.get(name.lower(), name) for name in asked.names]
    if unknown := set(names) - {*ALL, "tables"}:
        parser.error(f"there is no benchmark {min(unknown)!r}; there are {', '.join(ALL)} and tables")
    options = Options(asked.rounds or (2 if asked.quick else 5), asked.peers, asked.quick)
    failed = [name for name in names or ALL if name != "tables" and not run(name, options)]
    rewrite()
    if failed:
        sys.exit(f"failed: {' '.join(failed)}")


def run(name: str, options: Options) -> bool:
    """Run one; a failure is told and leaves its last result in place, and the others go on."""
    began = time.monotonic()
    say(f"{name} ...")
    try:
        ALL[name](options)
    except BackendMissing as problem:
        say(f"{name} is left out: {problem}")
    except (BackendFailed, RunFailed, TimeoutError, ValueError, subprocess.CalledProcessError) as problem:
        say(f"{name} FAILED: {problem}")
        return False
    say(f"{name} took {time.monotonic() - began:.0f} s")
    return True


if __name__ == "__main__":
    main()
