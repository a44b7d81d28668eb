"""Looks into a simulated world from outside: is it at rest, and do its stores hold what was promised?

It reads documents as JSON and committed offsets as numbers, and shares nothing with the runtime that wrote them.
"""

from collections.abc import Iterator
from typing import Any

from raa_runtime.bus.port import TopicPartition
from raa_runtime.simulated.clock import EPOCH
from raa_runtime.simulated.world import World

SOON_SECONDS = 120.0


def at_rest(world: World) -> list[str]:
    """Say what is still under way; nothing if the world is quiet."""
    return [*_unread(world), *_unfinished(world)]


def _unread(world: World) -> Iterator[str]:
    for group in world.broker.groups.values():
        if group.dealing or not group.members:
            yield f"{group.name} has no members, or deals its partitions out"
        for topic in {topic for member in group.members for topic in member.topics}:
            for part, log in enumerate(world.broker.topics[topic]):
                at = group.offsets.get(TopicPartition(topic, part), 0)
                if at < len(log):
                    yield f"{group.name} is at {at} of {len(log)} in {topic}/{part}"


def documents(world: World) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give every stored document with its service and kind."""
    for service, store in world.stores.items():
        for kind, rows in store.kinds.items():
            for row in rows.values():
                yield service, kind, row.document


def _unfinished(world: World) -> Iterator[str]:
    now = EPOCH.timestamp() + world.loop.now
    for service, kind, document in documents(world):
        name = f"{service} {kind} {document['_id']}"
        if document["quarantined"]:
            continue
        if document["activities"]:
            yield f"{name} runs {sorted(document['activities'])}"
        if document["deferred"]:
            yield f"{name} has deferred events"
        wake_at = document["wake_at"]
        if wake_at is not None and wake_at < now + SOON_SECONDS:
            yield f"{name} wakes in {wake_at - now:.1f} s"


def broken_promises(world: World) -> Iterator[str]:
    """Check the property of `wake_at`, and that no intent is without an owner."""
    published = {
        (raw or b"").decode()
        for parts in world.broker.topics.values()
        for log in parts
        for record in log
        for name, raw in record.headers
        if name == "ce_id"
    }
    for service, kind, document in documents(world):
        name = f"{service} {kind} {document['_id']}"
        missing = [entry["event_id"] for entry in document["outbox"] if entry["event_id"] not in published]
        if missing and (document["wake_at"] is None or document["tombstone"]):
            yield f"nobody will publish: {name} holds {missing}"
        if document["quarantined"]:
            yield f"quarantined: {name}"
            continue
        if document["wake_at"] is None and not (document["tombstone"] or kind in STANDING):
            yield f"no wake: {name} is neither ended nor will it ever be looked at"
        owners = {activity["owner"] for activity in document["activities"].values()}
        if owners - set(document["owners"]):
            yield f"hidden owner: {name} is run by {owners - set(document['owners'])}"


STANDING: frozenset[str] = frozenset({"switch", "keyring", "episode"})
