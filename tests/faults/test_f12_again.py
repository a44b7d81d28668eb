"""F12: events that come three times, late and in any order, lead to the same final state."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any, Final

from raa_client.connect import connect
from raa_runtime.bus.port import Message, Record
from raa_schemas.ids import owned
from raa_schemas.topics import TOPICS
from tests.faults.gather import aggregates
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.rest import quiet
from tests.faults.trial import Trial, meanwhile, together

TASKS: Final = 200 if LONG else 10
TIMES: Final = 3
SEED: Final = 7
_AGAIN: Final = "x-again"


def message(record: Record) -> Message:
    """Make a record again, marked, so that nobody makes it a third time."""
    headers = tuple((name, raw or b"") for name, raw in record.headers)
    return Message(record.topic, record.key or b"", record.value or b"", (*headers, (_AGAIN, b"1")))


async def repeat_meanwhile(trial: Trial, chance: random.Random) -> None:
    """Publish everything again while it happens: a moment later, and in another order."""
    topics = [owned(trial.house.settings.deployment, name) for name in TOPICS]
    async with connect(trial.house.settings) as client, asyncio.TaskGroup() as late:
        async for record in client.bus.read(topics, from_beginning=True, follow=True):
            if _AGAIN not in dict(record.headers):
                late.create_task(_later(client.bus.publish, message(record), chance.uniform(0, 2)))


async def _later(publish: Any, again: Message, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await publish([again])


async def repeat_all(trial: Trial, chance: random.Random) -> int:
    """Publish the whole log three times in a shuffled order; gives how many records."""
    topics = [owned(trial.house.settings.deployment, name) for name in TOPICS]
    async with connect(trial.house.settings) as client:
        log = [record async for record in client.bus.read(topics, from_beginning=True, follow=False)]
        again = [message(record) for record in log for _ in range(TIMES)]
        chance.shuffle(again)
        assert not any(await client.bus.publish(again))
    return len(again)


def states(trial: Trial) -> dict[str, str]:
    """Give what every aggregate decided, by its name."""
    stored = aggregates(trial.house.settings, trial.stores)
    return {f"{kind} {one['_id']}": json.dumps(one["state"], sort_keys=True) for kind, one in stored}


async def twice_and_thrice(trial: Trial) -> tuple[dict[str, str], dict[str, str], int]:
    """Run tasks while everything is repeated, then repeat all of it; gives the states before and after that."""
    chance, load = random.Random(SEED), trial.load()
    async with meanwhile(asyncio.create_task(repeat_meanwhile(trial, chance))):
        await load.submit(mixed(TASKS, "d"))
        await load.until_ended()
        await asyncio.sleep(2.5)
    await quiet(trial.house.settings, trial.stores)
    before = states(trial)
    repeated = await repeat_all(trial, chance)
    await quiet(trial.house.settings, trial.stores)
    return before, states(trial), repeated


def test_events_three_times_in_any_order_lead_to_the_same_state(place: Path, report: list[Row]) -> None:
    with together(place) as trial:
        trial.house.start()
        before, after, repeated = asyncio.run(twice_and_thrice(trial))
        verdict = asyncio.run(trial.verdict())
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    told = {
        name: verdict.figures.get(name, 0) for name in ("tasks", "lost", "tasks_succeeded", "calls", "dead_letters")
    }
    figures = told | {"repeated": repeated, "aggregates": len(before), "states_changed": len(changed)}
    broken = verdict.violations + [f"changed: {name}" for name in changed]
    report.append(Row("F12", "embedded+sqlite", f"each event {TIMES}x, shuffled", figures, broken))
    assert broken == []
    assert figures["tasks_succeeded"] == TASKS
    assert figures["calls"] == TASKS * 4 // 5
    assert figures["dead_letters"] == 0
