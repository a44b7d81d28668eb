"""Run benchmarks, one after another, each in a process of its own: `python -m benchmarks [floor tasks footprint]`."""

import sys

from benchmarks.measure import run_alone

ALL = ("floor", "tasks", "footprint")

for name in sys.argv[1:] or ALL:
    if name not in ALL:
        sys.exit(f"there is no benchmark {name!r}; there are {', '.join(ALL)}")
    run_alone(name)
