"""Deferral instead of retry topics: an event that has to wait lies in its own aggregate, as the bytes it came in."""

from datetime import UTC, datetime
from typing import Any, Final

from raa_runtime.bus.port import Record
from raa_runtime.errors import DeferralFull
from raa_runtime.intake import Addressed
from raa_runtime.state.aggregate import Deferred
from raa_runtime.unit import Received, Unit

MOST_DEFERRED: Final = 100
FIRST_BACKOFF_SECONDS: Final = 1.0
LONGEST_BACKOFF_SECONDS: Final = 60.0
LONGEST_ASKED_PAUSE_SECONDS: Final = 3600.0


def pause_after(why: Exception, tries: int) -> float:
    """Say how many seconds to wait: what the far side asked for, at most an hour, or else ever longer."""
    asked = getattr(why, "retry_after", None)
    if asked:
        return min(max(float(asked), 0.0), LONGEST_ASKED_PAUSE_SECONDS)
    return min(FIRST_BACKOFF_SECONDS * 2.0**tries, LONGEST_BACKOFF_SECONDS)


def queue_behind(unit: Unit[Any], addressed: Addressed, event: Received[Any], reason: str, due: float) -> None:
    """Append an event to the deferred ones of its aggregate; raises DeferralFull when there are too many."""
    if len(unit.aggregate.deferred) >= MOST_DEFERRED:
        raise DeferralFull(f"{unit.id} already has {MOST_DEFERRED} deferred events")
    record, now = addressed.record, unit.now.timestamp()
    unit.aggregate.deferred.append(
        Deferred(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp.timestamp(),
            key=record.key.decode("latin-1") if record.key is not None else None,  # any bytes, as they were
            headers=[(name, None if raw is None else raw.decode()) for name, raw in record.headers],
            value=(record.value or b"").decode(),
            event_id=event.id,
            tries=1,
            due=due,
            reason=reason,
            first_failed=now,
        )
    )


def as_record(deferred: Deferred) -> Record:
    """Give the record back as it lay on the bus."""
    return Record(
        deferred.topic,
        deferred.partition,
        deferred.offset,
        datetime.fromtimestamp(deferred.timestamp, UTC),
        None if deferred.key is None else deferred.key.encode("latin-1"),
        deferred.value.encode(),
        tuple((name, None if text is None else text.encode()) for name, text in deferred.headers),
    )
