"""Runs seeds: `python -m tests.simulation --seeds 0:2000`, or one with its story: `--seed 1234 --trace`."""

import argparse
import os
import sys
import time

from tests.simulation.family import Family
from tests.simulation.scenario import simulate
from tests.simulation.six import Six

HASH_SEED = "0"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="from:to")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--six", action="store_true", help="the real six services instead of the small family")
    parser.add_argument("--trace", action="store_true", help="tell everything that happens")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split(":"))
    seeds = range(first, last) if options.seed is None else [options.seed]
    begun, failed = time.process_time(), 0
    for seed in seeds:
        verdict = simulate(seed, Six if options.six else Family, print if options.trace else None)
        if verdict.violations or options.seed is not None:
            failed += bool(verdict.violations)
            print(f"seed {seed}: digest {verdict.digest:x}, {verdict.seconds:.1f} s, {verdict.steps} steps")
            for violation in verdict.violations[:10]:
                print(f"  {violation}")
            if verdict.violations:
                print(f"  again: python -m tests.simulation --seed {seed} {'--six ' * options.six}--trace")
    print(f"{len(seeds)} seeds, {failed} failed, {time.process_time() - begun:.1f} s CPU")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:  # sets of names must have the same order in every run
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
                  os.environ | {"PYTHONHASHSEED": HASH_SEED})  # fmt: skip
    raise SystemExit(main())
