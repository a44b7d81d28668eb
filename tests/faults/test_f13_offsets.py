"""F13: groups that read a finished log from its beginning again do nothing and spend nothing."""

import asyncio
from typing import Final

from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from raa_schemas.ids import owned
from raa_schemas.topics import SERVICES, TOPICS
from tests.faults.load import mixed
from tests.faults.report import LONG, Row
from tests.faults.rest import quiet
from tests.faults.trial import Trial
from tests.waiting import wait_until

TASKS: Final = 500 if LONG else 15
READERS: Final = frozenset(reader for topic in TOPICS.values() for reader in topic.readers)


async def some_tasks(trial: Trial) -> None:
    """Leave a log of tasks that ended."""
    load = trial.load()
    await load.submit(mixed(TASKS, "o"))
    await load.until_ended()


def forget_offsets(trial: Trial) -> int:
    """Delete the groups, so that they start at the earliest record; gives how many."""
    settings = trial.house.settings
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    names = [owned(settings.deployment, service) for service in SERVICES if service in READERS]
    # a member with a name of its own is waited for one session after it stopped
    wait_until(lambda: all(found.result().state == ConsumerGroupState.EMPTY
                           for found in admin.describe_consumer_groups(names).values()))  # fmt: skip
    for future in admin.delete_consumer_groups(names).values():
        future.result()
    return len(names)


def test_reading_a_finished_log_again_has_no_effect_and_no_cost(on_servers: Trial, report: list[Row]) -> None:
    asyncio.run(some_tasks(on_servers))
    asyncio.run(quiet(on_servers.house.settings, on_servers.stores))
    before = asyncio.run(on_servers.verdict())
    on_servers.house.stop()
    groups = forget_offsets(on_servers)
    on_servers.house.start()
    asyncio.run(quiet(on_servers.house.settings, on_servers.stores))
    after = asyncio.run(on_servers.verdict())
    told = ("tasks", "events", "calls", "unknown_outcomes")
    new = {f"new_{name}": after.figures[name] - before.figures[name] for name in told}
    figures = {"tasks": after.figures["tasks"], "groups": groups, "read_again": before.figures["events"]}
    report.append(Row("F13", "kafka+mongo+redis", f"{groups} groups to earliest", figures | new, after.violations))
    assert after.violations == []
    assert set(new.values()) == {0}
