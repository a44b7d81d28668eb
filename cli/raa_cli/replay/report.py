"""Says what a replay found: for people as text, for programs as one JSON object."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from raa_cli.output import print_json
from raa_cli.replay.change import Change
from raa_cli.replay.compare import Compared, Measure
from raa_cli.replay.decisions import Difference
from raa_cli.replay.deltas import Delta
from raa_cli.replay.gates import Summary
from raa_cli.telling import printable

SHOWN: Final = 8
SHOWN_CHARACTERS: Final = 72
_DIGEST: Final = re.compile(r"(sha256:[0-9a-f]{8})[0-9a-f]{56}")
_FIRST: Final = ("end", "plans", "safety", "approvals", "reflection", "steps", "runs", "models")


def print_replay(compared: Sequence[Compared], broken: Sequence[str]) -> None:
    """Print what differs, or that nothing does."""
    for one in compared:
        _print_task(one, "replayed: every decision is as recorded")
    same = sum(one.covered and not one.differences for one in compared)
    print(f"{same} of {len(compared)} replayed as recorded")
    for reason in broken:
        print(reason)


def print_whatif(change: Change, compared: Sequence[Compared], summary: Summary, broken: Sequence[str]) -> None:
    """Print the differences of each task, then what they come to."""
    print(f"what if: {change}")
    for one in compared:
        _print_task(one, "no decision changes")
    print(f"compared {summary.covered} of {summary.tasks} (coverage {summary.coverage:.0%}), "
          f"{summary.changed} with another outcome or result")  # fmt: skip
    if summary.covered:
        _print_deltas(compared, summary)
    print("gate: " + ("holds" if not broken else "; ".join(broken)))


def _print_task(one: Compared, same: str) -> None:
    print(f"{one.task_id}  {_shortened(one.goal)}".rstrip())
    if one.skipped:
        print(f"    skipped: {printable(one.skipped)}")
    elif one.diverged:
        print(f"    {printable(str(one.diverged))}")
        if one.recorded:
            print(f"    recorded: {_outcome(one.recorded)}")
    elif not one.differences:
        print(f"    {same}")
    else:
        _print_differences(one)


def _print_differences(one: Compared) -> None:
    if one.recorded and one.replayed:
        print(f"    {_outcome(one.replayed)} against {_outcome(one.recorded)} as recorded")
    ordered = sorted(one.differences, key=_rank)
    for difference in ordered[:SHOWN]:
        path, then, now = difference.path, _value(difference.recorded), _value(difference.replayed)
        print(f"      {printable(path)}: {then} -> {now}")
    if len(ordered) > SHOWN:
        print(f"      and {len(ordered) - SHOWN} more; --json lists them all")


def _rank(difference: Difference) -> tuple[int, str]:
    part = difference.path.partition("/")[0]
    return (_FIRST.index(part) if part in _FIRST else len(_FIRST), difference.path)


def _outcome(measure: Measure) -> str:
    if not measure.succeeded:
        return measure.outcome.replace("_", " ")
    return f"succeeded with {_value(measure.result)}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _shortened(_DIGEST.sub(r"\1…", text))


def _shortened(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def _print_deltas(compared: Sequence[Compared], summary: Summary) -> None:
    pairs = [(one.recorded, one.replayed) for one in compared if one.recorded and one.replayed]
    n = len(pairs)
    rows: list[tuple[str, Callable[[Measure], float], Delta, Callable[[float], str]]] = [
        ("success", lambda measure: float(measure.succeeded), summary.success, lambda value: f"{value:.0%}"),
        ("cost", lambda measure: float(measure.cost_microusd), summary.cost, _usd),
        ("latency", lambda measure: float(measure.latency_ms), summary.latency, lambda value: f"{value:.0f} ms"),
    ]
    print(f"{'per task':<10}{'recorded':>12}{'replayed':>12}{'change':>12}  95 % interval (n = {n})")
    for name, of, delta, written in rows:
        then, now = sum(of(one) for one, _ in pairs) / n, sum(of(one) for _, one in pairs) / n
        change = ("+" if delta.mean > 0 else "") + written(delta.mean)
        print(f"{name:<10}{written(then):>12}{written(now):>12}{change:>12}  {_interval(delta, written)}")


def _usd(microusd: float) -> str:
    return f"{microusd / 1_000_000:.6f} $"


def _interval(delta: Delta, written: Callable[[float], str]) -> str:
    if delta.low is None or delta.high is None:
        return f"none: {delta.method}"
    return f"{written(delta.low)} to {written(delta.high)} ({delta.method})"


def print_replay_json(compared: Sequence[Compared], broken: Sequence[str]) -> None:
    """Print one object with all tasks."""
    same = sum(one.covered and not one.differences for one in compared)
    print_json({"same": same, "tasks": [_task_json(one) for one in compared], "failures": list(broken)})


def print_whatif_json(change: Change, compared: Sequence[Compared], summary: Summary, broken: Sequence[str]) -> None:
    """Print one object with all tasks and the summary."""
    told = asdict(summary) | {"coverage": summary.coverage}
    print_json(
        {
            "change": {"kind": change.kind, "value": change.value, "allow": sorted(change.allow)},
            "summary": told,
            "tasks": [_task_json(one) for one in compared],
            "gate": {"holds": not broken, "failures": list(broken)},
        }
    )


def _task_json(one: Compared) -> dict[str, Any]:
    state = "skipped" if one.skipped else "diverged" if one.diverged else "changed" if one.differences else "same"
    return {
        "task_id": one.task_id,
        "goal": one.goal,
        "state": state,
        "skipped": one.skipped,
        "diverged": asdict(one.diverged) if one.diverged else None,
        "differences": [asdict(item) for item in one.differences],
        "recorded": asdict(one.recorded) if one.recorded else None,
        "replayed": asdict(one.replayed) if one.replayed else None,
        "live_calls": one.live_calls,
    }
