"""Computes what is true of a file by other means than the agent: the csv module and a sum."""

import csv
from fractions import Fraction
from pathlib import Path

from raa_cli.demo.scenario import Reading


def mean_of(folder: Path, reading: Reading) -> float:
    """Return the mean of a column, exactly summed; cells that are empty or missing do not count."""
    with (folder / reading.file).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter=reading.delimiter)
        cells = [(row[reading.column] or "").strip().replace(reading.decimal, ".") for row in rows]
    missing = {Fraction(token) for token in reading.missing}
    values = [value for cell in cells if cell and (value := Fraction(cell)) not in missing]
    return float(sum(values) / len(values))
