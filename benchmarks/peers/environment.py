"""What a process of a benchmark is told by the driver, in its environment. Standard library only."""

import os
from pathlib import Path

STAGES = 4
PARTITIONS = 4
KAFKA = os.environ.get("BENCH_KAFKA", "")
REDIS = os.environ.get("BENCH_REDIS", "")
POSTGRES = os.environ.get("BENCH_POSTGRES", "")
MONGO = os.environ.get("BENCH_MONGO", "")
FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
RUN = os.environ.get("BENCH_RUN", "run")
VARIANT = os.environ.get("BENCH_VARIANT", "")
WAIT_SECONDS = float(os.environ.get("BENCH_WAIT_SECONDS", "0"))


def topic(stage: int) -> str:
    """Name the topic or queue of a stage; the last is where the ends come out."""
    return f"{RUN}-{stage}"
