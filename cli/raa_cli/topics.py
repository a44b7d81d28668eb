"""Lists, creates and reads topics."""

import difflib
from collections.abc import Sequence
from typing import Any

from raa_cli.execute import UsageProblem
from raa_cli.output import print_json, print_rows
from raa_cli.records import Wanted, lines_of
from raa_cli.session import Place, reading, running
from raa_client.observed import reading as reading_topics
from raa_runtime.topics import topic_specs
from raa_schemas.ids import owned
from raa_schemas.topics import TOPICS


async def ls(place: Place, *, as_json: bool) -> None:
    """List what is declared and what is there."""
    settings = place.settings()
    async with reading(place) as session:
        there = await session.client.bus.topics()
    rows = [_row(spec.name, settings.deployment, there) for spec in topic_specs(settings)]
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_rows(
        [
            [
                row["topic"],
                str(row["partitions"] or "missing"),
                "public" if row["public"] else "",
                ", ".join(row["writers"]),
                ", ".join(row["readers"]),
            ]
            for row in rows
        ],
        ["topic", "partitions", "", "written by", "read by"],
    )
    if any(row["partitions"] is None for row in rows):
        print("create the missing ones with `raa topics apply`")


def _row(name: str, deployment: str, there: dict[str, int]) -> dict[str, Any]:
    topic = TOPICS.get(name.removeprefix(owned(deployment, "")))
    return {
        "topic": name,
        "partitions": there.get(name),
        "public": bool(topic and topic.public),
        "writers": list(topic.writers) if topic else [name.removeprefix(owned(deployment, "")).partition(".")[0]],
        "readers": list(topic.readers) if topic else [],
    }


async def apply(place: Place, *, as_json: bool) -> None:
    """Create what is missing."""
    settings = place.settings()
    async with running(place) as client:
        created = await client.bus.apply_topics(topic_specs(settings))
    if as_json:
        print_json({"created": created})
    else:
        print(f"created {', '.join(created)}" if created else "all topics are there")


async def tail(
    place: Place,
    topics: Sequence[str],
    *,
    task: str | None,
    tenant: str | None,
    from_beginning: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the records of topics, of one task or tenant if asked for."""
    settings = place.settings()
    wanted = Wanted(settings.deployment, tenant, task)
    async with reading(place) as session:
        bus = session.client.bus
        there = await bus.topics()
        names = [_found(topic, settings.deployment, there) for topic in topics]
        waits = follow and not session.offline
        async with reading_topics(bus, names, from_beginning=from_beginning, follow=waits) as records:
            async for record in records:
                if (shown := wanted.shown(record)) is None:
                    continue
                if as_json:
                    print_json(shown)
                else:
                    for line in lines_of(shown):
                        print(line, flush=True)


def _found(topic: str, deployment: str, there: dict[str, int]) -> str:
    for name in (topic, owned(deployment, topic)):
        if name in there:
            return name
    near = difflib.get_close_matches(topic, there, 1)
    hint = f"did you mean {near[0]}?" if near else "`raa topics list` shows those there are"
    raise UsageProblem(f"there is no topic {topic!r}; {hint}")
