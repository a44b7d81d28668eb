"""Lists, creates and reads topics."""

from typing import Any

from raa_cli.execute import UsageProblem
from raa_cli.output import print_json, print_rows
from raa_cli.session import Place, reading, running
from raa_cli.timeline import line_of
from raa_client.observed import Observed, observe
from raa_client.observed import reading as reading_topics
from raa_runtime.bus.port import Record
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


async def tail(place: Place, topic: str, *, from_beginning: bool, follow: bool, as_json: bool) -> None:
    """Print the records of one topic."""
    settings = place.settings()
    async with reading(place) as session:
        bus = session.client.bus
        name = _found(topic, settings.deployment, await bus.topics())
        waits = follow and not session.offline
        async with reading_topics(bus, [name], from_beginning=from_beginning, follow=waits) as records:
            async for record in records:
                _print(record, observe(record, settings.deployment), as_json=as_json)


def _found(topic: str, deployment: str, there: dict[str, int]) -> str:
    for name in (topic, owned(deployment, topic)):
        if name in there:
            return name
    raise UsageProblem(f"there is no topic {topic!r}; `raa topics list` shows those there are")


def _print(record: Record, observed: Observed | None, *, as_json: bool) -> None:
    if as_json:
        print_json(observed.to_json() if observed else _raw(record))
    elif observed is None:
        print(f"{record.timestamp:%H:%M:%S}  {record.topic}/{record.partition}@{record.offset}  {_text(record.value)}")
    else:
        print(
            f"{observed.envelope.time:%H:%M:%S}  {observed.tenant}/{observed.envelope.subject}  "
            f"{line_of(observed.event).text}",
            flush=True,
        )


def _raw(record: Record) -> dict[str, Any]:
    """Show what is no event of ours: a dead letter, or a record that nobody can read."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": record.timestamp.isoformat(),
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": {name: _text(value) for name, value in record.headers},
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="replace")
