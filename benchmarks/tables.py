"""The tables of docs/performance.md and docs/delivery.md, made from benchmarks/results/, between the pages' markers."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS, ROOT

PAGES = (ROOT / "docs" / "performance.md", ROOT / "docs" / "delivery.md")
MARKERS = re.compile(r"(<!-- table (?P<name>\w+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)
Result = Mapping[str, Any]
Row = Mapping[str, Any]


def rewrite(pages: Iterable[Path] = PAGES, results: Path = RESULTS) -> None:
    """Put the newest results into the pages."""
    for page in pages:
        page.write_text(filled(page.read_text(), results))


def filled(text: str, results: Path) -> str:
    """Fill every table of a page; one without a result file says so."""
    return MARKERS.sub(lambda found: found[1] + _section(found["name"], results) + found[4], text)


def _section(name: str, results: Path) -> str:
    path = results / f"{name}.json"
    if name == "faults":
        return _faults(json.loads(path.read_text())) if path.exists() else "Not measured yet: `make faults`.\n"
    if not path.exists():
        return f"Not measured yet: `make bench ARGS={name.upper()}`.\n"
    result = json.loads(path.read_text())
    return "\n".join([TABLES.get(name, _plain)(result), "", *_aims(result), _when(result), ""])


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Make a Markdown table; the first column is text, the others are numbers unless their head ends in a space."""
    aligned = ["---", *("---" if head.endswith(" ") else "---:" for head in heads[1:])]
    lines = [heads, aligned, *rows]
    return "\n".join("| " + " | ".join(str(cell).strip() for cell in line) + " |" for line in lines)


def _of(spread: Mapping[str, float] | None, unit: str = "") -> str:
    """Write a median with its range over the rounds."""
    if spread is None:
        return "-"
    middle, low, high = (_number(spread[key]) for key in ("median", "low", "high"))
    return f"{middle}{unit} ({low}-{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def _waits(waits: Mapping[str, float] | None) -> Sequence[str]:
    return ["-"] * 3 if waits is None else [_number(waits[share]) for share in ("p50", "p95", "p99")]


def _b0(result: Result) -> str:
    heads = ["records in a batch", "broker CPU to write, us/record", "to read", "written/s", "read/s",
             "ack p50, ms", "ack p99, ms"]  # fmt: skip
    figures = ("write_broker_us", "read_broker_us", "written_per_second", "read_per_second", "ack_p50_ms", "ack_p99_ms")
    return table(heads, ([row["batch"], *(_of(row[figure]) for figure in figures)] for row in result["rows"]))


def _b1(result: Result) -> str:
    heads = ["system", "CPU ms/task", "client / workers / servers", "times ours embedded",
             "times ours on Kafka + SQLite", "tasks/s", "MB", "durability "]  # fmt: skip
    return table(
        heads,
        (
            [
                _title(row),
                _of(row["cpu_ms"]),
                " / ".join(_number(value) for value in row["cpu_parts_ms"].values()),
                _of(row.get("against_raa-embedded")),
                _of(row.get("against_raa-kafka-sqlite")),
                _of(row["tasks_per_second"]),
                _number(row["memory_mb"]),
                row["durability"] + (f"; {row['invalid_runs']} runs invalid" if row["invalid_runs"] else ""),
            ]
            for row in sorted(result["rows"], key=lambda row: row["cpu_ms"]["median"])
        ),
    )


def _b2(result: Result) -> str:
    rows = sorted(result["rows"], key=lambda row: (row["load"], row["waited_ms"]["p50"]))
    return table(
        ["system", "load ", "p50, ms", "p95", "p99", "max", "durability "],
        (
            [_title(row), row["load"], *_waits(row["waited_ms"]), _number(row["waited_ms"]["max"]), row["durability"]]
            for row in rows
        ),
    )


def _b3(result: Result) -> str:
    return table(
        ["system", "load ", "tasks/s", "CPU ms/task", "out of order", "lost", "p50, ms", "p95", "p99", "durability "],
        (
            [
                _title(row),
                row["load"],
                _of(row["tasks_per_second"]),
                _of(row["cpu_ms"]),
                row["misordered"],
                row["lost"],
                *_waits(row.get("waited_ms")),
                row["durability"],
            ]
            for row in result["rows"]
        ),
    )


def _b4(result: Result) -> str:
    return table(
        ["what", "records", "records/s", "CPU ms/record", "lost", "published twice", "silent, s", "durability "],
        (
            [
                row["title"],
                _number(row.get("records", row.get("ended", 0))),
                _number(row["per_second"]) if "per_second" in row else "-",
                row.get("cpu_ms", "-"),
                row["lost"],
                row["duplicates"],
                _of(row.get("silence_seconds")),
                row["durability"],
            ]
            for row in result["rows"]
        ),
    )


def _b12(result: Result) -> str:
    return table(
        ["what", "seconds to start", "resident MB when idle"],
        ([row["title"], _of(row["seconds"]), _of(row["resident_mb"])] for row in result["rows"]),
    )


def _faults(result: Result) -> str:
    rows = (
        [row["id"], row["where"], row["injected"], "; ".join(f"{name.replace('_', ' ')} {_number(value)}"
         for name, value in row["figures"].items()), row["verdict"], f"{row['form']}, {row['measured_at'][:10]}"]
        for row in result["faults"].values()
    )  # fmt: skip
    return table(["fault ", "where ", "what was done ", "figures ", "verdict ", "form "], rows) + "\n"


def _plain(result: Result) -> str:
    figures = table(["figure", "value"], ([name, _number(value)] for name, value in result["figures"].items()))
    aims = "; ".join(f"`{name}` {aim}" for name, aim in result["targets"].items())
    return f"{figures}\n\nAims: {aims}. Durability: {result['durability']}."


def _title(row: Row) -> str:
    return f"**{row['title']}**" if row["name"].startswith("raa") else row["title"]


def _aims(result: Result) -> list[str]:
    if isinstance(result["targets"], dict) or not result["targets"]:
        return []
    verdict = {True: "met", False: "**missed**", None: "not measured"}
    rows = (
        [aim["what"], f"{'≤' if aim['at_most'] else '≥'} {_number(aim['goal'])} {aim['unit']}",
         "-" if aim["measured"] is None else f"{_number(aim['measured'])} {aim['unit']}", verdict[aim["met"]]]
        for aim in result["targets"]
    )  # fmt: skip
    return [table(["aim", "wanted", "measured", "verdict "], rows), ""]


def _when(result: Result) -> str:
    machine = result["machine"]
    load = machine.get("load_average_before", machine.get("load_average"))
    rounds = f", {result['rounds']} rounds" if "rounds" in result else ""
    quick = ", quick: not for comparison" if result.get("quick") else ""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"Measured {result['measured_at'][:16].replace('T', ' ')} UTC{rounds}{quick}; {machine['cores']} cores, "
        f"load average before {load[0]}; Python {machine['python']}, {versions}."
    )


TABLES: dict[str, Callable[[Result], str]] = {"b0": _b0, "b1": _b1, "b2": _b2, "b3": _b3, "b4": _b4, "b12": _b12}
