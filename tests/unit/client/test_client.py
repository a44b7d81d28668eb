"""The client over the embedded bus and a folder of blobs."""

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raa_client.client import Client, new_task_id
from raa_client.errors import InputUnusable, NothingToDecide, TaskUnknown
from raa_client.following import Following
from raa_client.observed import observe, story_topics
from raa_client.operator import operator_of
from raa_client.story import fold_story
from raa_runtime.blobs import open_blobs
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Message, Record
from raa_runtime.errors import DeadlineExceeded
from raa_runtime.settings import ServiceSettings
from raa_runtime.testing import message_of
from raa_runtime.topics import topic_specs
from raa_schemas.approval import ApprovalRequested
from raa_schemas.artifact import Artifact
from raa_schemas.canonical import canonical_bytes
from raa_schemas.event import Event
from raa_schemas.ids import is_task_id
from raa_schemas.task import TaskCreated, TaskDone, TaskStatus
from tests.unit.client.told import LESSON, NOON, recovery, reflection

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def _client(folder: Path, deployment: str = "") -> AsyncIterator[Client]:
    bus = EmbeddedBus(folder)
    await bus.start()
    await bus.apply_topics(topic_specs(ServiceSettings(data=folder, deployment=deployment)))
    try:
        yield Client(bus, open_blobs(f"file:{folder}/blobs", deployment), deployment=deployment)
    finally:
        await bus.stop()


async def _tell(client: Client, *events: Event, tenant: str = "default") -> None:
    messages = [message_of(event, tenant, client.deployment, f"event-{number}-{tenant}-{event.event_type()}")
                for number, event in enumerate(events)]  # fmt: skip
    assert await client.bus.publish(messages) == [None] * len(messages)


async def test_a_task_without_an_id_gets_one(tmp_path: Path):
    async with _client(tmp_path) as client:
        task_id = await client.submit(TaskCreated(task_id=None, goal="a mean"))
        assert is_task_id(task_id)
        (created,) = await client.history(task_id)
        assert created.event.task_id == task_id


async def test_submitting_the_same_task_twice_is_one_event(tmp_path: Path):
    async with _client(tmp_path) as client:
        for _ in range(2):
            await client.submit(TaskCreated(task_id="t1", goal="a mean"))
        assert len(await client.history("t1")) == 1


async def test_a_run_is_followed_from_its_submission_to_its_end(tmp_path: Path):
    async with _client(tmp_path) as client:
        seen = []
        async for observed in client.run(TaskCreated(task_id="t1", goal="a mean")):
            seen.append(observed.envelope.type)
            if seen == ["task.created"]:
                await _tell(client, *recovery()[1:])
        assert seen.count("task.done") == 1
        assert sorted(seen) == sorted(event.event_type() for event in recovery())


async def test_following_reads_all_when_its_reading_began_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raa_client.following.OWN_RECORD_SECONDS", 0.1)
    async with _client(tmp_path) as client:
        began = asyncio.Event()

        class Late(EmbeddedBus):
            """A bus that finds its end only when told."""

        async def read(topics: list[str], *, from_beginning: bool, follow: bool) -> AsyncIterator[Record]:
            if not from_beginning:
                await began.wait()
            async for record in client.bus.read(topics, from_beginning=from_beginning, follow=follow):
                yield record

        late = Late(tmp_path / "other")
        monkeypatch.setattr(late, "read", read)
        monkeypatch.setattr(late, "end_offsets", client.bus.end_offsets)
        following = Following(late, "", "default", "t1")
        seen = [observed.envelope.type async for observed in following.newly_submitted(
            lambda: _tell(client, *recovery()))]  # fmt: skip
        assert seen[0] == "task.created"
        assert seen[-1] == "task.done"


async def test_watching_gives_the_past_in_order_and_then_what_comes(tmp_path: Path):
    events = recovery()
    async with _client(tmp_path) as client:
        await _tell(client, *events[:6])
        seen = []
        async for observed in client.watch("t1"):
            seen.append(observed)
            if len(seen) == 6:
                await _tell(client, *events[6:])
        assert [observed.envelope.type for observed in seen[:6]] == [event.event_type() for event in events[:6]]
        assert isinstance(seen[-1].event, TaskDone) or len(seen) == len(events)
        assert fold_story(seen).state == "succeeded"


async def test_another_tenants_task_of_the_same_name_is_not_seen(tmp_path: Path):
    async with _client(tmp_path) as client:
        await _tell(client, *recovery(), tenant="other")
        with pytest.raises(TaskUnknown):
            await client.history("t1")
        assert len(await client.of_tenant("other").history("t1")) == len(recovery())


async def test_deployments_on_one_bus_do_not_meet(tmp_path: Path):
    async with _client(tmp_path, "blue") as client:
        await client.submit(TaskCreated(task_id="t1", goal="a mean"))
        (created,) = await client.history("t1")
        assert created.topic == "blue.task.created"
        with pytest.raises(TaskUnknown):
            await Client(client.bus, client.blobs, deployment="").history("t1")


async def test_a_bare_line_is_seen_under_its_derived_id(tmp_path: Path):
    async with _client(tmp_path) as client:
        await client.bus.publish([Message("task.created", b"", b'{"goal": "a mean"}', ())])
        (observed,) = [one async for one in client.tail("task.created", from_beginning=True, follow=False)]
        assert observed.event.task_id == observed.envelope.subject
        assert [one.id for one in await client.history(observed.envelope.subject)] == [observed.id]


async def test_a_record_that_is_no_event_is_passed_over(tmp_path: Path):
    async with _client(tmp_path) as client:
        await client.bus.publish([Message("task.created", b"", b"not json", ())])
        async for record in client.bus.read(["task.created"], from_beginning=True, follow=False):
            assert observe(record, "") is None


async def test_the_result_of_an_unknown_task_is_an_error_that_names_it(tmp_path: Path):
    async with _client(tmp_path) as client:
        with pytest.raises(TaskUnknown, match="no task 'nobody'"):
            await client.result("nobody")


async def test_a_result_that_does_not_come_in_time_says_where_the_task_stands(tmp_path: Path):
    async with _client(tmp_path) as client:
        await _tell(client, recovery()[0], TaskStatus(task_id="t1", state="running"))
        with pytest.raises(DeadlineExceeded, match="it was 'running'"):
            await client.result("t1", 0.05)


async def test_a_result_is_waited_for(tmp_path: Path):
    async with _client(tmp_path) as client:
        await _tell(client, recovery()[0])
        waiting = asyncio.create_task(client.result("t1", 10))
        await asyncio.sleep(0)
        await _tell(client, *recovery()[-1:])
        assert (await waiting).result == 2.5


async def test_a_result_by_reference_is_fetched(tmp_path: Path):
    async with _client(tmp_path) as client:
        sha256 = await client.blobs.put(client.scope, "t1", b'{"rows": [1, 2]}')
        done = TaskDone(task_id="t1", outcome="succeeded", result_ref=f"blob:sha256/{sha256}")
        assert await client.value_of(done) == {"rows": [1, 2]}


async def test_an_attached_file_is_stored_under_its_hash_and_saved_again(tmp_path: Path):
    file = tmp_path / "table.csv"
    file.write_bytes(b"a;b\n1;2\n")
    async with _client(tmp_path) as client:
        attached = await client.attach("t1", file)
        assert (attached.name, attached.size, attached.media_type) == ("table.csv", 8, "text/csv")
        assert attached.uri == f"blob:sha256/{attached.sha256}"
        artifact = Artifact(name="sub/copy.csv", sha256=attached.sha256 or "", size=8)
        (saved,) = await client.save("t1", [artifact], tmp_path / "out")
        assert saved.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("name", "told"), [("nowhere.csv", "there is no file"), ("", "is a folder")])
async def test_what_cannot_be_attached_is_named(tmp_path: Path, name: str, told: str):
    async with _client(tmp_path) as client:
        with pytest.raises(InputUnusable, match=told):
            await client.attach("t1", tmp_path / name)


async def test_a_pipe_is_no_input(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    async with _client(tmp_path) as client:
        with pytest.raises(InputUnusable, match="no regular file"):
            await client.attach("t1", tmp_path / "pipe")


async def test_lessons_are_looked_up_where_they_were_learned(tmp_path: Path):
    async with _client(tmp_path) as client:
        await _tell(client, reflection(1, "accept", lessons=[LESSON]))
        assert await client.lessons(["les_1", "les_unknown"]) == {"les_1": LESSON}
        assert await client.of_tenant("other").lessons(["les_1"]) == {}


def _asked(step: str, approval: str) -> ApprovalRequested:
    return ApprovalRequested(task_id="t1", plan_version=1, step=step, approval_id=approval, question="may_run",
                             tool="send", args_hash="sha256:1", expires_at=NOON)  # fmt: skip


async def test_a_decision_is_signed_over_the_exact_action_with_the_key_of_the_folder(tmp_path: Path):
    operator = operator_of(tmp_path)
    assert operator_of(tmp_path).key_id == operator.key_id
    async with _client(tmp_path) as client:
        await _tell(client, _asked("send", "a1"))
        await client.decide(await client.approval("t1", "send"), "approve", "go on", operator)
        decided = (await client.history("t1"))[-1].event
        content = canonical_bytes(decided.signed_content("", "default"))  # type: ignore[attr-defined]
        signature = base64.b64decode(decided.signature)  # type: ignore[attr-defined]
        operator.key.public_key().verify(signature, content)
        with pytest.raises(NothingToDecide):
            await client.approval("t1", "send")


async def test_a_step_that_does_not_wait_is_an_error_that_names_those_that_do(tmp_path: Path):
    async with _client(tmp_path) as client:
        await _tell(client, _asked("send", "a1"))
        with pytest.raises(NothingToDecide, match="these steps wait: send"):
            await client.approval("t1", "mean")


async def test_the_private_key_is_readable_to_its_owner_only(tmp_path: Path):
    operator_of(tmp_path)
    assert (tmp_path / "keys" / "operator.pem").stat().st_mode & 0o077 == 0


def test_a_new_task_id_is_a_task_id_and_new():
    assert is_task_id(new_task_id())
    assert new_task_id() != new_task_id()


def test_the_story_needs_no_internal_topic():
    assert not {"step.ready", "step.finished", "step.cancel"} & set(story_topics("", "default"))
