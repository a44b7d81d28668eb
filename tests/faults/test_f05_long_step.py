"""F5: a step longer than the interval in which Kafka's client must poll causes no rebalance and holds up nobody."""

import asyncio
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from tests.faults.load import mixed, planned
from tests.faults.report import LONG, Row
from tests.faults.trial import Trial, separate

pytestmark = pytest.mark.patient

POLL_SECONDS: Final = 3.0
STEP_SECONDS: Final = 600.0 if LONG else 5 * POLL_SECONDS
OTHERS: Final = 1_000 if LONG else 20


async def warm_up(trial: Trial) -> None:
    """Run a task, so that every group has its members and every service what it asks for first."""
    load = trial.load()
    await load.submit(mixed(3, "first", ("calculate", "ledger.read", "ledger.keyed")))
    await load.until_ended()


async def beside_a_long_step(trial: Trial) -> tuple[list[float], float]:
    """Run short tasks beside one long step; gives what each short one took, and when the last of them ended."""
    slow, quick = trial.load(), trial.load()
    begun = time.monotonic()
    await slow.submit([planned("long", "ledger.keyed", seconds=STEP_SECONDS)])
    await quick.submit(mixed(OTHERS, "short", ("calculate", "ledger.read")))
    await quick.until_ended(seconds=60 + OTHERS)
    last = time.monotonic() - begun
    await slow.until_ended(seconds=STEP_SECONDS + 60)
    return [done.durations.total_ms / 1000 for done in quick.ended.values()], last


def members(trial: Trial) -> dict[str, frozenset[str]]:
    """Name the members of each group of the deployment: a member that left and came back has another name."""
    settings = trial.house.settings
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    names = [f"{settings.deployment}.{service}" for service in ("executor", "planner", "safety", "reflector", "memory")]
    groups = {name: future.result() for name, future in admin.describe_consumer_groups(names).items()}
    return {name: frozenset(member.member_id for member in group.members) for name, group in groups.items()}


def test_a_step_longer_than_the_poll_interval_causes_no_rebalance(
    place: Path, kafka: str, mongo: str, redis_url: str, report: list[Row]
) -> None:
    poll, most = str(POLL_SECONDS), str(STEP_SECONDS * 2)
    with separate(
        place,
        deployment=f"f{uuid4().hex[:8]}",
        kafka=kafka,
        mongo=mongo,
        redis_url=redis_url,
        test_short_poll=poll,
        test_tool_seconds=most,
    ) as trial:
        trial.house.start()
        asyncio.run(warm_up(trial))
        before = members(trial)
        took, last = asyncio.run(beside_a_long_step(trial))
        rebalances = sum(after != before[name] for name, after in members(trial).items())
        verdict = asyncio.run(trial.verdict())
    told = {name: verdict.figures.get(name, 0) for name in ("tasks", "lost", "keyed_repeats", "unknown_outcomes")}
    more = {
        "step_s": STEP_SECONDS,
        "extra_rebalances": rebalances,
        "others_p50_s": sorted(took)[len(took) // 2],
        "others_max_s": max(took),
        "others_done_s": last,
    }
    report.append(Row("F5", "kafka+mongo+redis", f"poll interval {POLL_SECONDS:g} s", told | more, verdict.violations))
    assert verdict.violations == []
    assert rebalances == 0
    assert told["keyed_repeats"] == told["unknown_outcomes"] == 0
    assert last < STEP_SECONDS or LONG
