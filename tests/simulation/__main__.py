"""Runs seeds: `python -m tests.simulation --seeds 0:2000`, or one with its story: `--seed 1234 --trace`."""

import argparse
import os
import sys
import time
from shlex import join

from tests.simulation.mutations import MUTATIONS
from tests.simulation.playing import results
from tests.simulation.scenario import Verdict

HASH_SEED = "0"


def main() -> int:
    options = arguments().parse_args()
    first, last = map(int, options.seeds.split(":"))
    seeds = range(first, last) if options.seed is None else [options.seed]
    jobs = [(seed, options.six, options.broken, options.trace) for seed in seeds]
    begun, played, failed, seconds = time.monotonic(), 0, 0, 0.0
    for verdict, cpu in results(jobs, options.jobs):
        played += 1
        seconds += cpu
        failed += bool(verdict.violations)
        if verdict.violations or options.seed is not None:
            tell(verdict, more=[*["--six"] * options.six, *(["--broken", options.broken] if options.broken else [])])
        if failed >= options.most:
            break
    print(f"{played} seeds, {failed} failed, {seconds:.1f} s CPU, {time.monotonic() - begun:.1f} s")
    return 1 if failed else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="from:to")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--six", action="store_true", help="the real six services instead of the small family")
    parser.add_argument("--trace", action="store_true", help="tell everything that happens")
    parser.add_argument("--broken", choices=list(MUTATIONS), help="with this rule of the runtime broken")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--most", type=int, default=20, help="stop after so many failed seeds")
    return parser


def tell(verdict: Verdict, more: list[str]) -> None:
    print(f"seed {verdict.seed}: digest {verdict.digest:x}, {verdict.seconds:.1f} s, {verdict.steps} steps")
    for violation in verdict.violations[:10]:
        print(f"  {violation}")
    if verdict.violations:
        print("  again:", join(["python", "-m", "tests.simulation", "--seed", str(verdict.seed), *more, "--trace"]))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:  # sets of names must have the same order in every run
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
                  os.environ | {"PYTHONHASHSEED": HASH_SEED})  # fmt: skip
    raise SystemExit(main())
