"""Aggregates to documents and back."""

from dataclasses import dataclass
from typing import Any, Generic

from pydantic_core import to_json

from raa_runtime.errors import AggregateTooLarge
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
    encoded = to_json(document, by_alias=True)
    if len(encoded) > MAX_DOCUMENT_BYTES:
        raise AggregateTooLarge(
            f"{kind.name} {aggregate.id} would take {len(encoded)} bytes, over 1 MB; pass large values by reference")
    return Write(kind.name, document, encoded, expected=aggregate.version)


def decode(kind: Kind[S], document: Document) -> Aggregate[S]:
    """Decode a stored document; unknown fields of its state are kept."""
    return Aggregate(
        id=document["_id"],
        tenant=document["tenant"],
        task_id=document["task"],
        state=kind.state.model_validate(document["state"]),
        partition=document["partition"],
        version=document["version"],
        write_id=document["write_id"],
        state_schema=document["state_schema"],
        wake_at=document["wake_at"],
        wake_tries=document["wake_tries"],
        quarantined=document["quarantined"],
        closed=document["closed"],
        tombstone=document["tombstone"],
        counter=document["counter"],
        context=Context(**document["context"]),
        timers=document["timers"],
        marks=document["marks"],
        seen=[(item[0], item[1]) for item in document["seen"]],
        outbox=[Entry(**item) for item in document["outbox"]],
        activities={name: Activity(**item) for name, item in document["activities"].items()},
        deferred=[Deferred(**item) for item in document["deferred"]],
        updated_at=document["updated_at"],
    )


__all__ = ["Kind", "State", "decode", "encode"]
