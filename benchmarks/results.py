"""What a benchmark leaves behind: one JSON file with rows, targets, versions and the machine as it was."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
_LOCK = Path(__file__).parent / "peers" / "requirements.txt"
_OWN = ("raa-runtime", "aiokafka", "pydantic", "pymongo")


@dataclass(frozen=True)
class Target:
    """What was aimed at and what came out; `at_most` says which way is good. `measured` None: nothing to judge."""

    what: str
    goal: float
    measured: float | None
    unit: str
    at_most: bool = True

    @property
    def met(self) -> bool | None:
        """Say whether it was reached."""
        if self.measured is None:
            return None
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal

    def __str__(self) -> str:
        verdict = {None: "not measured", True: "met", False: "MISSED"}[self.met]
        return f"{self.what}: {self.measured} {self.unit}, aim {'<=' if self.at_most else '>='} {self.goal}: {verdict}"


def write(
    name: str, rows: Sequence[Mapping[str, Any]], targets: Sequence[Target], *, load: Sequence[float], **more: Any
) -> None:
    """Keep the result of a benchmark and print its verdicts; `load` is the load average before it began."""
    result = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(load),
        **more,
        "rows": list(rows),
        "targets": [asdict(target) | {"met": target.met} for target in targets],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    for target in targets:
        print(f"{name}: {target}", flush=True)


def machine(load: Sequence[float]) -> dict[str, Any]:
    """Describe where it ran."""
    return {
        "cores": os.cpu_count(),
        "load_average_before": [round(value, 2) for value in load],
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "system": platform.system(),
    }


def versions(packages: Collection[str], servers: Collection[str]) -> dict[str, str]:
    """Name the versions of our packages, of the peers' (from their lock) and of the servers."""
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", _LOCK.read_text(), re.MULTILINE))
    named = {package: version(package) for package in _OWN}
    named |= {package: locked[package] for package in packages if package in locked}
    return named | {server: _server_version(server) for server in servers}


def _server_version(name: str) -> str:
    pom = ROOT / "tests" / "backends" / f"{name}.pom.xml"
    if pom.exists():
        found = re.search(r"<version>(\d+\.\d[\w.]*)</version>", pom.read_text())
        return ("stand-in mongo-java-server " if name == "mongo" else "") + (found[1] if found else "unknown")
    program = shutil.which({"redis": "redis-server", "postgres": "psql"}[name])
    if program is None:
        return "unknown"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+[.\d]*", said)
    return found[0] if found else said.strip()
