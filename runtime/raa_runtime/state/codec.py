"""Aggregates to documents and back."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import to_json

from raa_runtime.errors import AggregateTooLarge, NewerState, UnreadableState
from raa_runtime.state.aggregate import (
    MAX_DOCUMENT_BYTES,
    Activity,
    Aggregate,
    Context,
    Deferred,
    Entry,
    S,
    State,
)
from raa_runtime.state.port import Document, KindSpec, Write

# room for the dead letter of an aggregate that is as large as it may be
_QUARANTINE_EXTRA_BYTES: Final = 256_000
D = TypeVar("D")


def _same(state: Any) -> Any:
    return state


@dataclass(frozen=True, slots=True)
class Kind(Generic[S]):
    """A collection of aggregates: its name, its state model, and how an ended one shrinks.

    `tombstone` makes the small state that outlives the task; `indexes` names the marks to index; `schema` is the
    major version of the state, which older readers leave alone.
    """

    name: str
    state: type[S]
    tombstone: Any = _same
    indexes: tuple[str, ...] = ()
    schema: int = 1

    @property
    def spec(self) -> KindSpec:
        """What a store needs to know of it."""
        return KindSpec(self.name, self.indexes)


def encode(kind: Kind[Any], aggregate: Aggregate[Any]) -> Write:
    """Encode an aggregate as the conditional write that follows its loaded version.

    Raises AggregateTooLarge beyond 1 MB, before the document can harm a batch.
    """
    document: Document = {
        "_id": aggregate.id,
        "tenant": aggregate.tenant,
        "task": aggregate.task_id,
        "partition": aggregate.partition,
        "version": aggregate.version + 1,
        "write_id": aggregate.write_id,
        "state_schema": aggregate.state_schema,
        "wake_at": aggregate.wake_at,
        "wake_tries": aggregate.wake_tries,
        "owners": aggregate.owners,
        "quarantined": aggregate.quarantined,
        "closed": aggregate.closed,
        "tombstone": aggregate.tombstone,
        "counter": aggregate.counter,
        "context": aggregate.context,
        "timers": aggregate.timers,
        "marks": aggregate.marks,
        "seen": aggregate.seen,
        "outbox": aggregate.outbox,
        "activities": aggregate.activities,
        "deferred": aggregate.deferred,
        "state": aggregate.state,
        "updated_at": aggregate.updated_at,
    }
    if aggregate.unknown:
        document |= aggregate.unknown
    encoded = to_json(document, by_alias=True)
    if len(encoded) > MAX_DOCUMENT_BYTES + (_QUARANTINE_EXTRA_BYTES if aggregate.quarantined else 0):
        raise AggregateTooLarge(
            f"{kind.name} {aggregate.id} would take {len(encoded)} bytes, over 1 MB; pass large values by reference"
        )
    return Write(kind.name, document, encoded, expected=aggregate.version)


def decode(kind: Kind[S], document: Document) -> Aggregate[S]:
    """Decode a stored document; fields it has and this release does not know are kept.

    A state of a newer major, or one that does not fit its model, makes the aggregate `unreadable`.
    """
    state, unreadable = _read_state(kind, document)
    if document["tombstone"] and not unreadable:
        state = kind.tombstone(state)  # a store that shrinks leaves this to whoever reads
    return Aggregate(
        id=document["_id"],
        tenant=document["tenant"],
        task_id=document["task"],
        state=state,
        partition=document["partition"],
        version=document["version"],
        write_id=document["write_id"],
        # the next write makes it a state of this release
        state_schema=document["state_schema"] if unreadable else kind.schema,
        wake_at=document["wake_at"],
        wake_tries=document["wake_tries"],
        quarantined=document["quarantined"],
        closed=document["closed"],
        tombstone=document["tombstone"],
        counter=document["counter"],
        context=_make(Context, document["context"]),
        timers=document["timers"],
        marks=document["marks"],
        seen=[(item[0], item[1]) for item in document["seen"]],
        outbox=[_make(Entry, item) for item in document["outbox"]],
        activities={name: _make(Activity, item) for name, item in document["activities"].items()},
        deferred=[_make(Deferred, item) for item in document["deferred"]],
        updated_at=document["updated_at"],
        unreadable=unreadable,
        unknown={name: document[name] for name in document.keys() - _FIELDS},
    )


def _read_state(kind: Kind[S], document: Document) -> tuple[Any, Exception | None]:
    raw, schema, name = document["state"], document["state_schema"], document["_id"]
    if schema > kind.schema:
        return State.model_validate(raw), NewerState(
            f"{name} has state of version {schema}, this release knows "
            f"{kind.schema}; it waits for a process of the newer release"
        )
    try:
        return kind.state.model_validate(raw), None
    except ValidationError as problem:
        return State.model_validate(raw), UnreadableState(f"the state of {name} is no {kind.name}: {problem}")


def _make(cls: type[D], item: Mapping[str, Any]) -> D:
    """Build a part of the header; what a newer release added to it is left out."""
    try:
        return cls(**item)
    except TypeError:
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in item.items() if name in known})


_FIELDS: Final = frozenset(
    {
        "_id",
        "tenant",
        "task",
        "partition",
        "version",
        "write_id",
        "state_schema",
        "wake_at",
        "wake_tries",
        "owners",
        "quarantined",
        "closed",
        "tombstone",
        "counter",
        "context",
        "timers",
        "marks",
        "seen",
        "outbox",
        "activities",
        "deferred",
        "state",
        "updated_at",
    }
)

__all__ = ["Kind", "State", "decode", "encode"]
