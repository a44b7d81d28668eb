"""What every document store promises, on SQLite, the simulated one and a server that speaks MongoDB's protocol."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from raa_runtime.clock import SystemClock
from raa_runtime.errors import PermanentError
from raa_runtime.scope import TenantScope
from raa_runtime.simulated.chance import Chance
from raa_runtime.simulated.store import SimulatedStore, StoreServer
from raa_runtime.state.mongo import MongoStore
from raa_runtime.state.port import DocumentStore, KindSpec, Process, Write
from raa_runtime.state.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
KINDS = [KindSpec("task", ("reflected_at",)), KindSpec("step")]
ACME, OTHER = TenantScope("acme"), TenantScope("other")  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", "simulated", "mongo"])
async def store(request: pytest.FixtureRequest, data_folder: Path, deployment: str) -> AsyncIterator[DocumentStore]:
    made = _make(request, data_folder, deployment)
    await made.start(KINDS)
    yield made
    await made.close()


def _make(request: pytest.FixtureRequest, data_folder: Path, deployment: str) -> DocumentStore:
    if request.param == "sqlite":
        return SqliteStore(data_folder / "planner.sqlite")
    if request.param == "simulated":
        return SimulatedStore(StoreServer("planner", Chance(0)), SystemClock())
    return MongoStore(request.getfixturevalue("mongo"), f"{deployment}.planner")


def write(aggregate: str, expected: int = 0, kind: str = "task", **fields: Any) -> Write:
    document: dict[str, Any] = {
        "_id": aggregate, "tenant": aggregate.partition("/")[0], "task": "t", "partition": 0, "version": expected + 1,
        "write_id": uuid4().hex, "state_schema": 1, "wake_at": None, "wake_tries": 0, "owners": [],
        "quarantined": False, "closed": False, "tombstone": False, "counter": 0, "context": {}, "timers": {},
        "marks": {}, "seen": [], "outbox": [], "activities": {}, "deferred": [], "state": {}, "updated_at": 1.5,
    } | fields  # fmt: skip
    return Write(kind, document, to_json(document), expected)


async def test_a_document_comes_back_as_it_was_written(store: DocumentStore):
    sent = write("acme/t1", partition=4, wake_at=12.25, owners=["i1"], marks={"reflected_at": 3.5},
                 state={"a.b": 1, "$set": [None, True, 1.0, "Grüße"], "": {"deep": {"x": 2**53}}},
                 seen=[["id", "digest"]], context={"labels": {"a.b": "c"}})  # fmt: skip
    assert await store.commit([sent]) == ["stored"]
    assert await store.find(ACME, "task", "acme/t1") == sent.document


async def test_a_document_of_another_tenant_or_kind_or_name_is_not_found(store: DocumentStore):
    await store.commit([write("acme/t1")])
    assert await store.find(OTHER, "task", "acme/t1") is None
    assert await store.find(ACME, "step", "acme/t1") is None
    assert await store.find(ACME, "task", "acme/t2") is None


async def test_many_documents_are_found_at_once_each_of_its_tenant(store: DocumentStore):
    first, second = write("acme/t1"), write("other/t1")
    await store.commit([first, second])
    wanted = [(OTHER, "other/t1"), (ACME, "acme/none"), (OTHER, "acme/t1"), (ACME, "acme/t1"), (ACME, "acme/t1")]
    assert await store.find_many("task", wanted) == [second.document, None, None, first.document, first.document]
    assert await store.find_many("task", []) == []


async def test_a_large_batch_names_its_losers(store: DocumentStore):
    await store.commit([write(f"acme/{number}") for number in range(0, 200, 7)])
    batch = [write(f"acme/{number}") for number in range(200)]
    outcomes = await store.commit(batch)
    assert [number for number, outcome in enumerate(outcomes) if outcome == "lost"] == list(range(0, 200, 7))
    again = await store.commit([write(f"acme/{number}", expected=1 + number % 2) for number in range(200)])
    assert again == ["stored", "lost"] * 100


async def test_the_second_creation_loses_and_changes_nothing(store: DocumentStore):
    first, second = write("acme/t1", state={"by": 1}), write("acme/t1", state={"by": 2})
    assert await store.commit([first]) == ["stored"]
    assert await store.commit([second]) == ["lost"]
    assert await store.find(ACME, "task", "acme/t1") == first.document


async def test_a_write_on_an_old_version_loses_and_its_neighbours_do_not(store: DocumentStore):
    await store.commit([write("acme/a"), write("acme/b"), write("acme/c", kind="step")])
    await store.commit([write("acme/a", expected=1)])
    outcomes = await store.commit([
        write("acme/a", expected=1), write("acme/b", expected=1), write("acme/c", expected=1, kind="step"),
        write("acme/d"), write("acme/a", expected=2), write("acme/b", expected=7),
    ])  # fmt: skip
    assert outcomes == ["lost", "stored", "stored", "stored", "stored", "lost"]


async def test_of_many_racing_writers_exactly_one_wins_each_version(store: DocumentStore):
    await store.commit([write("acme/t1")])
    for version in range(1, 6):
        outcomes = await asyncio.gather(*(store.commit([write("acme/t1", expected=version)]) for _ in range(10)))
        assert sorted(str(outcome) for [outcome] in outcomes) == ["lost"] * 9 + ["stored"]


async def test_a_write_that_expects_a_version_does_not_revive_what_was_never_there(store: DocumentStore):
    assert await store.commit([write("acme/gone", expected=3)]) == ["lost"]
    assert await store.find(ACME, "task", "acme/gone") is None


async def test_nothing_to_write_is_nothing_to_fail(store: DocumentStore):
    assert await store.commit([]) == []


async def test_a_document_that_cannot_be_stored_fails_alone(store: DocumentStore):
    bad = write("acme/bad", marks={"reflected_at": 2**70})
    outcomes = await store.commit([write("acme/a"), bad, write("acme/b")])
    assert [outcomes[0], outcomes[2]] == ["stored", "stored"]
    assert isinstance(outcomes[1], PermanentError)
    assert await store.find(ACME, "task", "acme/bad") is None


async def test_documents_up_to_the_limit_of_one_megabyte_are_stored_many_at_once(store: DocumentStore):
    large = [write(f"acme/{number}", state={"text": "x" * 990_000}) for number in range(40)]
    assert await store.commit(large) == ["stored"] * 40


async def test_due_names_what_has_come_earliest_first_in_the_partitions_asked_for(store: DocumentStore):
    await store.commit([
        write("acme/late", wake_at=30.0), write("acme/first", wake_at=10.0, partition=1),
        write("acme/second", wake_at=20.0), write("acme/none"), write("acme/homeless", wake_at=5.0, partition=None),
    ])  # fmt: skip
    assert await store.due("task", 25, None, 10) == ["acme/homeless", "acme/first", "acme/second"]
    assert await store.due("task", 25, [0], 10) == ["acme/homeless", "acme/second"]
    assert await store.due("task", 25, [], 10) == ["acme/homeless"]
    assert await store.due("task", 25, None, 1) == ["acme/homeless"]
    assert await store.due("step", 25, None, 10) == []
    assert await store.next_wake("task", None) == 5.0
    assert await store.next_wake("task", [1]) == 5.0
    assert await store.next_wake("step", None) is None


async def test_a_tombstone_is_not_due_but_expires_and_only_then_is_purged(store: DocumentStore):
    await store.commit([
        write("acme/old", wake_at=10.0, tombstone=True), write("acme/older", wake_at=5.0, tombstone=True, partition=1),
        write("acme/young", wake_at=30.0, tombstone=True), write("acme/due", wake_at=10.0),
        write("acme/homeless", wake_at=20.0, tombstone=True, partition=None), write("acme/kept", tombstone=True),
    ])  # fmt: skip
    assert await store.due("task", 25, None, 10) == ["acme/due"]
    assert await store.expired("task", 25, None, 10) == ["acme/older", "acme/old", "acme/homeless"]
    assert await store.expired("task", 25, [0], 10) == ["acme/old", "acme/homeless"]
    assert await store.expired("task", 25, None, 1) == ["acme/older"]
    await store.purge("task", ["acme/old", "acme/young", "acme/due", "acme/kept", "acme/never"], 25)
    left = [name for name in ("old", "older", "young", "due", "kept") if await store.find(ACME, "task", f"acme/{name}")]
    assert left == ["older", "young", "due", "kept"]
    assert await store.commit([write("acme/old", expected=1)]) == ["lost"]
    await store.purge("task", [], 25)


async def test_what_was_shrunk_is_a_tombstone_with_an_empty_outbox_and_else_as_it_was(store: DocumentStore):
    entry = {"event_id": "e", "topic": "t", "key": "k", "headers": [], "value": "{}"}
    kept: dict[str, Any] = {
        "wake_at": 5.0,
        "outbox": [entry],
        "state": {"phase": "done"},
        "marks": {"reflected_at": 1.0},
    }
    await store.commit([write(f"acme/{name}", **kept) for name in ("ended", "written", "other")])
    await store.commit([write("acme/written", expected=1, wake_at=6.0)])
    await store.shrink("task", {"acme/ended": 1, "acme/written": 1, "acme/never": 1}, 40.0)
    shrunk = await store.find(ACME, "task", "acme/ended")
    assert shrunk is not None
    assert (shrunk["tombstone"], shrunk["wake_at"], shrunk["outbox"], shrunk["version"]) == (True, 40.0, [], 1)
    assert shrunk["state"] == kept["state"]
    assert [shrunk] == await store.find_many("task", [(ACME, "acme/ended")])
    assert shrunk in await store.newest(ACME, "task", "reflected_at", 10)
    assert shrunk in await store.scan(ACME, "task", "reflected_at", None, 10)
    assert await store.due("task", 50, None, 10) == ["acme/other", "acme/written"]
    assert await store.expired("task", 50, None, 10) == ["acme/ended"]
    assert await store.commit([write("acme/ended", expected=1, wake_at=7.0)]) == ["stored"]
    assert await store.due("task", 50, None, 10) == ["acme/other", "acme/written", "acme/ended"]
    await store.shrink("task", {}, 40.0)
    await store.shrink("task", {"acme/ended": 2}, 40.0)
    await store.purge("task", ["acme/ended"], 50)
    assert await store.find(ACME, "task", "acme/ended") is None


async def test_a_wake_that_is_cleared_is_no_longer_due(store: DocumentStore):
    await store.commit([write("acme/t1", wake_at=1.0, owners=["i1"], marks={"reflected_at": 1.0})])
    await store.commit([write("acme/t1", expected=1)])
    assert await store.due("task", 10, None, 10) == []
    assert await store.next_wake("task", None) is None
    assert await store.owned_by("task", ["i1"], 10) == []
    assert await store.newest(ACME, "task", "reflected_at", 10) == []


async def test_owned_by_finds_the_aggregates_of_any_of_the_incarnations(store: DocumentStore):
    await store.commit([write("acme/a", owners=["i1", "i2"]), write("acme/b", owners=["i3"]), write("acme/c")])
    assert await store.owned_by("task", ["i2", "i9"], 10) == ["acme/a"]
    assert sorted(await store.owned_by("task", ["i1", "i3"], 10)) == ["acme/a", "acme/b"]
    assert len(await store.owned_by("task", ["i1", "i3"], 1)) == 1
    assert await store.owned_by("task", [], 10) == []


async def test_marks_order_the_documents_of_one_tenant(store: DocumentStore):
    await store.commit([
        *(write(f"acme/{value}", marks={"reflected_at": value}) for value in (2.0, 1.0, 3.0)),
        write("other/x", marks={"reflected_at": 9.0}), write("acme/unmarked"),
    ])  # fmt: skip

    async def scan(above: float | None, limit: int) -> list[str]:
        return [document["_id"] for document in await store.scan(ACME, "task", "reflected_at", above, limit)]

    newest = await store.newest(ACME, "task", "reflected_at", 2)
    assert [document["_id"] for document in newest] == ["acme/3.0", "acme/2.0"]
    assert await scan(None, 10) == ["acme/1.0", "acme/2.0", "acme/3.0"]
    assert await scan(1.0, 10) == ["acme/2.0", "acme/3.0"]
    assert await scan(None, 1) == ["acme/1.0"]
    assert await store.newest(OTHER, "task", "reflected_at", 5) != []


async def test_marks_may_be_text(store: DocumentStore):
    await store.commit([write(f"acme/{name}", marks={"reflected_at": name}) for name in ("b", "a", "ä")])
    found = await store.scan(ACME, "task", "reflected_at", "a", 10)
    assert [document["_id"] for document in found] == ["acme/b", "acme/ä"]


async def test_heartbeats_are_written_read_and_forgotten(store: DocumentStore):
    await store.beat(Process("i1", "host-a", 1))
    await store.beat(Process("i1", "host-a", 2))
    await store.beat(Process("i2", "host-b", 1, stopped=True))
    await store.ping()
    rows = sorted(await store.processes(), key=lambda process: process.incarnation)
    assert rows == [Process("i1", "host-a", 2), Process("i2", "host-b", 1, stopped=True)]
    await store.forget("i1")
    assert [process.incarnation for process in await store.processes()] == ["i2"]


async def test_the_clock_of_the_store_is_near_ours_and_aware(store: DocumentStore):
    assert abs(await store.now() - datetime.now(UTC)) < timedelta(seconds=2)


async def test_starting_again_keeps_what_is_there(store: DocumentStore):
    await store.commit([write("acme/t1")])
    await store.start(KINDS)
    assert await store.find(ACME, "task", "acme/t1") is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])),
                                                                inner, max_size=4), max_leaves=20)  # fmt: skip


@given(state=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=5))
def test_any_json_survives_the_way_into_mongo_and_back(mongo_store: "Loop", state: dict[str, Any]):
    sent = write(f"acme/{uuid4().hex}", state=state)
    assert mongo_store.run(mongo_store.store.commit([sent])) == ["stored"]
    found = mongo_store.run(mongo_store.store.find(ACME, "task", sent.document["_id"]))
    assert found is not None
    assert to_json(found["state"]) == to_json(state)


class Loop:
    """A store and the event loop it lives on, for tests that hypothesis drives."""

    def __init__(self, store: DocumentStore) -> None:
        self._runner = asyncio.Runner()
        self.run = self._runner.run
        self.store = store

    def close(self) -> None:
        self.run(self.store.close())
        self._runner.close()


@pytest.fixture(scope="module")
def mongo_store(mongo: str):
    loop = Loop(MongoStore(mongo, f"t{uuid4().hex[:10]}"))
    loop.run(loop.store.start(KINDS))
    yield loop
    loop.close()
