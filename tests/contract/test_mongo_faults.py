"""What a connection that breaks at the wrong moment does to conditional writes."""

from urllib.parse import urlsplit

import pytest

from raa_runtime.errors import DependencyUnavailable, Misconfigured, PermanentError
from raa_runtime.scope import TenantScope
from raa_runtime.state.mongo import MongoStore
from tests.backends.process import free_port
from tests.contract.test_store import ACME, KINDS, write
from tests.contract.wire import wire_to

pytestmark = pytest.mark.anyio


async def test_a_write_whose_reply_got_lost_is_found_by_its_write_id(mongo: str, deployment: str):
    server = urlsplit(mongo)
    async with wire_to(server.hostname or "", server.port or 0) as wire:
        store = MongoStore(f"mongodb://127.0.0.1:{wire.port}", deployment)
        await store.start(KINDS)
        await store.commit([write("acme/lost")])
        batch = [write("acme/new"), write("acme/lost")]
        wire.cut_at(batch[0].document["write_id"].encode(), "reply")
        assert await store.commit(batch) == ["stored", "lost"]
        assert wire.cuts == 1
        await store.close()


async def test_a_write_that_never_arrived_is_transient_and_can_be_tried_again(mongo: str, deployment: str):
    server = urlsplit(mongo)
    async with wire_to(server.hostname or "", server.port or 0) as wire:
        store = MongoStore(f"mongodb://127.0.0.1:{wire.port}", deployment)
        await store.start(KINDS)
        sent = write("acme/new")
        wire.cut_at(sent.document["write_id"].encode(), "request")
        with pytest.raises(DependencyUnavailable):
            await store.commit([sent])
        assert wire.cuts == 1
        assert await store.commit([sent]) == ["stored"]
        await store.close()


async def test_a_store_that_is_away_says_so_within_seconds(deployment: str):
    store = MongoStore(f"mongodb://127.0.0.1:{free_port()}", deployment)
    with pytest.raises(DependencyUnavailable):
        await store.ping()
    with pytest.raises(DependencyUnavailable):
        await store.find(TenantScope(ACME.tenant), "task", "acme/t1")
    with pytest.raises(DependencyUnavailable):
        await store.commit([write("acme/t1")])
    await store.close()


def test_a_url_that_is_none_is_refused_with_the_name_of_its_setting(deployment: str):
    with pytest.raises(Misconfigured, match="RAA_MONGO_URL"):
        MongoStore("postgres://example", deployment)


async def test_header_fields_are_readable_without_decoding_the_state(mongo: str, deployment: str):
    store = MongoStore(mongo, deployment)
    await store.start(KINDS)
    await store.commit([write("acme/t1", state_schema=2, wake_at=3.0, owners=["i1"], marks={"reflected_at": 1.0})])
    stored = await store._database["task"].find_one({}, {"doc": 0})
    assert stored is not None
    assert stored["tenant"] == "acme"
    assert (stored["version"], stored["state_schema"], stored["wake_at"]) == (1, 2, 3.0)
    assert (stored["owners"], stored["marks"]) == (["i1"], {"reflected_at": 1.0})
    await store.close()


async def test_a_document_beyond_what_mongo_takes_fails_alone_in_its_batch(mongo: str, deployment: str):
    store = MongoStore(mongo, deployment)
    await store.start(KINDS)
    await store.commit([write("acme/old")])
    outcomes = await store.commit([
        write("acme/a"), write("acme/giant", state={"text": "x" * 17_000_000}), write("acme/old"),
        write("acme/old", expected=1), write("acme/step", kind="step"),
    ])  # fmt: skip
    assert isinstance(outcomes[1], PermanentError)
    assert [outcomes[0], *outcomes[2:]] == ["stored", "lost", "stored", "stored"]
    assert await store.find(ACME, "task", "acme/giant") is None
    await store.close()


async def test_after_a_lost_reply_each_write_of_the_batch_is_decided_by_itself(mongo: str, deployment: str):
    server = urlsplit(mongo)
    async with wire_to(server.hostname or "", server.port or 0) as wire:
        store = MongoStore(f"mongodb://127.0.0.1:{wire.port}", deployment)
        await store.start(KINDS)
        await store.commit([write("acme/a"), write("acme/b"), write("acme/c")])
        await store.commit([write("acme/b", expected=1)])
        batch = [write("acme/a", expected=1), write("acme/b", expected=1), write("acme/c", expected=1), write("acme/d")]
        wire.cut_at(batch[0].document["write_id"].encode(), "reply")
        assert await store.commit(batch) == ["stored", "lost", "stored", "stored"]
        assert wire.cuts == 1
        again = await store.find(ACME, "task", "acme/a")
        assert again is not None
        assert again["version"] == 2
        await store.close()


async def test_a_batch_that_may_or_may_not_have_arrived_never_counts_another_process_as_itself(
    mongo: str, deployment: str
):
    server = urlsplit(mongo)
    other = MongoStore(mongo, deployment)
    await other.start(KINDS)
    async with wire_to(server.hostname or "", server.port or 0) as wire:
        store = MongoStore(f"mongodb://127.0.0.1:{wire.port}", deployment)
        await store.start(KINDS)
        await store.commit([write("acme/a")])
        mine = write("acme/a", expected=1)
        wire.cut_at(mine.document["write_id"].encode(), "request")
        assert await other.commit([write("acme/a", expected=1)]) == ["stored"]  # while ours never arrives
        assert await store.commit([mine]) == ["lost"]
        await store.close()
    await other.close()
