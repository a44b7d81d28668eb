"""Writes what a fault run showed: a line per fault on the terminal, its figures to benchmarks/results/faults.json."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.json"
LONG: Final = os.environ.get("RAA_FAULTS", "") == "long"
KEPT: Final = os.environ.get("RAA_FAULTS", "") in {"long", "short"}
_COLUMNS: Final = ("id", "where", "injected", "figures", "verdict")


@dataclass(frozen=True, slots=True)
class Row:
    """One fault as it was tried: `where` names bus and stores, `injected` says what was done how often."""

    id: str
    where: str
    injected: str
    figures: Mapping[str, int | float]
    violations: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Say in a word or two what came of it."""
        return f"{len(self.violations)} violations" if self.violations else "held"

    def cells(self) -> tuple[str, str, str, str, str]:
        """Give the row of the table."""
        told = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in self.figures.items())
        return self.id, self.where, self.injected, told, self.verdict


def _short(value: int | float) -> str:  # noqa: PYI041  # an int is written without a point
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def table(rows: list[Row]) -> str:
    """Lay rows out, one line per fault."""
    lines = [_COLUMNS, *(row.cells() for row in sorted(rows, key=_order))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _order(row: Row) -> tuple[int, str]:
    number = "".join(character for character in row.id.split()[0] if character.isdigit())
    return int(number or 0), row.where


def write(rows: list[Row], path: Path = RESULTS) -> None:
    """Merge the rows into the file of figures: a fault tried again replaces what was known of it there."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the long forms run in two processes
        file.seek(0)
        merged = _merged(rows, file.read())
        file.truncate(0)
        file.write(merged)


def _merged(rows: list[Row], former: str) -> str:
    known: dict[str, Any] = json.loads(former)["faults"] if former else {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for row in rows:
        entry = asdict(row) | {"form": "long" if LONG else "short", "measured_at": now, "verdict": row.verdict}
        known[f"{row.id} {row.where}"] = entry
    ordered = dict(sorted(known.items(), key=lambda item: _order(Row(item[1]["id"], item[1]["where"], "", {}))))
    return json.dumps({"benchmark": "faults", "faults": ordered}, indent=2) + "\n"
