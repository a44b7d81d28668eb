"""The small parts of the floor under bad circumstances: commits, leases, locks, doors, the watchdog."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Message, TopicSpec
from raa_runtime.bus.socket_client import SocketBus
from raa_runtime.bus.socket_server import SocketServer
from raa_runtime.errors import DependencyUnavailable, Misconfigured, TransientError
from raa_runtime.folder_lock import FolderLock
from raa_runtime.guard import StrayCancellationError, outcome_of
from raa_runtime.http import HttpServer, listen
from raa_runtime.instance import instance_name
from raa_runtime.liveness import FORGET_SECONDS, Liveness
from raa_runtime.state.commit import GroupCommit
from raa_runtime.state.port import Process, Write
from raa_runtime.state.sqlite import SqliteStore
from raa_runtime.telemetry import Metrics
from raa_runtime.watchdog import PATIENCE_SECONDS, Watchdog
from tests.unit.runtime.floor import until
from tests.unit.runtime.test_activities import Still

pytestmark = pytest.mark.anyio


class OddStore:
    """A store that a certain write breaks in a way nobody foresaw."""

    async def commit(self, writes: Any) -> Any:
        await asyncio.sleep(0)
        if any(write.kind == "bad" for write in writes):
            raise ZeroDivisionError
        return ["stored"] * len(writes)


async def test_a_write_that_breaks_the_batch_fails_alone_and_nobody_waits_for_ever():
    store: Any = OddStore()
    commit = GroupCommit(store)
    writes = [commit.write(Write(kind, {}, b"", 0)) for kind in ("good", "bad", "good")]
    answers = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 5)
    assert [answers[0], answers[2]] == ["stored", "stored"]
    assert isinstance(answers[1], ZeroDivisionError)


async def test_a_waiter_that_was_cancelled_harms_no_other():
    store: Any = OddStore()
    commit = GroupCommit(store)
    first, second = (commit.write(Write("good", {}, b"", 0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.wait_for(second, 5) == "stored"


async def test_a_stray_cancellation_is_a_failure_and_ours_passes_through():
    async def stray() -> None:
        raise asyncio.CancelledError

    assert isinstance(await outcome_of(stray), StrayCancellationError)
    task = asyncio.create_task(outcome_of(lambda: asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_second_process_of_one_name_is_not_taken_for_dead_while_it_lives(tmp_path: Path):
    store, clock = SqliteStore(tmp_path / "db.sqlite"), Still()
    await store.start([])
    mine = Liveness(store, clock, "planner@host", 10)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:  # noqa: ASYNC220
        namesake = Process(f"planner@host:{other.pid}:abcd", "planner@host", 1)
        await store.beat(namesake)
        await mine.beat()
        assert mine.dead == frozenset()
        clock.seconds += 11
        await mine.beat()
        assert mine.dead == {namesake.incarnation}
        await store.beat(Process(namesake.incarnation, namesake.instance, 2))
        await mine.beat()
        assert mine.dead == frozenset()
        assert mine.lives(namesake.incarnation)
        other.kill()
    clock.seconds += 11
    await mine.beat()
    assert mine.dead == {namesake.incarnation}
    assert not mine.lives(namesake.incarnation)
    await store.close()


async def test_a_dead_process_stays_known_for_as_long_as_a_write_of_its_may_arrive(tmp_path: Path):
    store, clock = SqliteStore(tmp_path / "db.sqlite"), Still()
    await store.start([])
    mine = Liveness(store, clock, "planner@host", 10)
    await store.beat(Process("planner@gone:1:abcd", "planner@gone", 1, stopped=True))
    await mine.beat()
    assert mine.dead == {"planner@gone:1:abcd"}
    assert mine.long_dead() == []
    clock.seconds += FORGET_SECONDS + 1
    await mine.beat()
    assert mine.long_dead() == ["planner@gone:1:abcd"]
    await mine.forget("planner@gone:1:abcd")
    await mine.beat()
    assert (mine.dead, mine.long_dead()) == (frozenset(), [])
    await store.close()


async def test_a_namesake_whose_pid_we_cannot_see_is_found_by_its_beats(tmp_path: Path):
    store, clock = SqliteStore(tmp_path / "db.sqlite"), Still()
    await store.start([])
    mine = Liveness(store, clock, "planner@host", 10)
    namesake = Process(f"planner@host:{os.getpid()}:abcd", "planner@host", 1)  # pid 1 in every container
    await store.beat(namesake)
    await mine.beat()
    assert mine.dead == {namesake.incarnation}
    await mine.forget(namesake.incarnation)
    await store.beat(Process(namesake.incarnation, namesake.instance, 2))
    await mine.beat()
    assert (mine.dead, mine.namesake) == (frozenset(), namesake.incarnation)
    assert mine.lives(namesake.incarnation)
    await store.close()


def test_a_process_keeps_its_name_over_restarts_and_shares_it_with_no_other_folder(tmp_path: Path):
    first = instance_name("", tmp_path / "one")
    assert instance_name("", tmp_path / "one") == first
    assert instance_name("", tmp_path / "two") != first
    assert instance_name("pod-3", tmp_path / "one") == "pod-3"


async def test_a_folder_has_one_owner_and_the_other_is_told_its_pid(tmp_path: Path):
    (tmp_path / "raa.lock").write_bytes(b"\xff\xfe 99999999 left by a dead one")
    with (
        FolderLock(tmp_path),
        pytest.raises(Misconfigured, match=f"process {os.getpid()} already"),
        FolderLock(tmp_path),
    ):
        pass
    with FolderLock(tmp_path) as lock:
        assert not os.get_inheritable(lock._file)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="--data"), FolderLock(tmp_path / "file" / "below"):
        pass


@pytest.fixture
async def door(data_folder: Path) -> Any:
    bus = EmbeddedBus(data_folder)
    await bus.start()

    async def info() -> dict[str, Any]:
        return {"pid": 1}

    server = SocketServer(bus, data_folder, info)
    await server.start()
    yield server
    await server.stop()
    await bus.stop()


@pytest.mark.parametrize("line", [b"{broken\n", b"7\n", b"{}\n", b'{"op": "fly"}\n', b'{"op": "publish"}\n'])
async def test_a_line_that_is_no_request_is_answered_and_the_next_is_served(door: SocketServer, line: bytes):
    reader, writer = await asyncio.open_unix_connection(door._path)
    writer.write(line + b'{"op": "topics"}\n')
    assert "error" in json.loads(await reader.readline())
    assert json.loads(await reader.readline()) == {"topics": {}}
    writer.close()


async def test_a_giant_line_is_answered_and_ends_the_conversation(door: SocketServer):
    reader, writer = await asyncio.open_unix_connection(door._path)
    writer.write(b"x" * (4 * 1024 * 1024 + 70_000))
    assert "longer than" in json.loads(await reader.readline())["error"]
    writer.close()


async def test_only_this_user_may_come_in_and_a_watch_ends_with_its_watcher(door: SocketServer, data_folder: Path):
    assert door._path.stat().st_mode & 0o077 == 0
    _, writer = await asyncio.open_unix_connection(door._path)
    writer.write(b'{"op": "read", "topics": [], "from_beginning": true, "follow": true}\n')

    async def busy() -> bool:
        return len(door._open) == 1

    async def idle() -> bool:
        return not door._open

    await until(busy)
    writer.close()
    await until(idle)
    client = SocketBus(data_folder)
    assert await client.info() == {"pid": 1}


async def test_more_than_fits_into_a_line_goes_in_several(door: SocketServer, data_folder: Path):
    await door._bus.apply_topics(
        [TopicSpec("t", 1, 1, timedelta(days=1), compacted=False, max_message_bytes=1_000_000)]
    )
    messages = [Message("t", b"k", b"%d" % number + b" " * 2_000, (("h", b"x" * 100),)) for number in range(3_000)]
    assert await SocketBus(data_folder).publish(messages) == [None] * len(messages)
    found = [int(record.value or b"") async for record in door._bus.read(["t"], from_beginning=True, follow=False)]
    assert found == list(range(3_000))


@pytest.fixture
async def served() -> Any:
    routes = APIRouter()

    @routes.post("/echo")
    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @routes.get("/away")
    async def away() -> None:
        raise DependencyUnavailable("the store does not answer")

    @routes.get("/defect")
    async def defect() -> None:
        raise ZeroDivisionError

    server = HttpServer("test", listen("127.0.0.1", 0), routes, Metrics(), dict, {})
    await server.start()
    yield server
    await server.stop()


async def test_a_body_beyond_two_megabytes_is_refused_with_and_without_its_length(served: HttpServer):
    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 100_000

    async with httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.post("/echo", json={"a": "x" * 1_000_000})).status_code == 200
        assert (await client.post("/echo", content=b" " * 3_000_000)).status_code == 413
        assert (await client.post("/echo", content=chunks())).status_code == 413


async def test_what_is_away_is_503_and_a_defect_shows_no_insides(served: HttpServer):
    async with httpx.AsyncClient(base_url=served.url) as client:
        away = await client.get("/away")
        assert (away.status_code, away.json()) == (503, {"detail": "the store does not answer"})
        defect = await client.get("/defect")
        assert defect.status_code == 500
        assert "Zero" not in defect.text


async def test_a_port_that_is_taken_is_named():
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(Misconfigured, match="RAA_HTTP_PORT"):
            listen("127.0.0.1", taken.getsockname()[1])


async def test_the_watchdog_bites_only_when_lag_grows_nothing_moves_and_everything_answers():
    clock, facts = Still(), {"settled": 0, "lag": 5, "answers": True}

    async def lag() -> int:
        return int(facts["lag"])

    async def answers() -> bool:
        return bool(facts["answers"])

    dog = Watchdog(lambda: int(facts["settled"]), lag, answers, clock.monotonic)

    async def after(**changes: Any) -> bool:
        facts.update(changes)
        clock.seconds += PATIENCE_SECONDS + 1
        return await dog.is_stuck()

    assert not await after()
    assert not await after(lag=5)
    assert not await after(lag=9, settled=1)
    assert not await after(lag=20, answers=False)
    assert await after(lag=30, answers=True)


async def test_a_bus_that_is_away_fails_no_observer_for_good(data_folder: Path):
    with pytest.raises(TransientError, match="raa up"):
        await SocketBus(data_folder).topics()
