"""Dead letters as an operator meets them: a defect is mended, what died of it is sent back, and its task goes on."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from raa_cli.dlq import decide, lists
from raa_cli.dlq.edit import edit
from raa_cli.dlq.how import How
from raa_cli.dlq.scan import Wanted
from raa_cli.session import Place
from raa_cli.stack import Stack
from raa_client.client import Client
from raa_client.connect import connect
from raa_runtime.bus.port import Message
from raa_runtime.dispatch import On
from raa_runtime.service import Service
from raa_schemas.ids import owned
from raa_schemas.plan import Plan
from raa_schemas.task import TaskCreated, TaskDone, TaskStatus

pytestmark = pytest.mark.anyio
QUICK = How(wait=15.0)
TOOLS = """
from pathlib import Path

from raa_executor.tools.registry import tool


@tool(effect="once", risk="workspace", timeout=10)
def stamp(file: str) -> dict[str, int]:
    \"\"\"Write one more line into a file, which nobody may repeat.\"\"\"
    with Path(file).open("a") as lines:
        lines.write("stamped\\n")
    return {"lines": len(Path(file).read_text().splitlines())}
"""


class Operator:
    """Somebody with the command line, beside a stack in this process whose handlers can be broken and mended."""

    def __init__(self, folder: Path, bus: str, deployment: str) -> None:
        self.place = Place(folder / "d", bus)
        self.folder, self.deployment = folder, deployment
        self.printed: Callable[[], str] = lambda: ""

    @contextlib.asynccontextmanager
    async def stack(self, **overrides: Any) -> AsyncIterator[Stack]:
        (self.folder / "tools.py").write_text(TOOLS)
        given: dict[str, Any] = {"tools": [self.folder / "tools.py"], "create_topics": True} | overrides
        async with Stack(self.place.data, bus=self.place.bus, drain_seconds=2, **given) as stack:
            await stack.ready(60)
            yield stack

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with connect(self.place.settings()) as client:
            yield client

    async def submit(self, **given: Any) -> str:
        async with self.client() as client:
            return await client.submit(TaskCreated.model_validate({"goal": "what is 1 + 1"} | given))

    async def result(self, task: str) -> TaskDone:
        async with self.client() as client:
            return await client.result(task, 30)

    async def status(self, task: str, state: str) -> TaskStatus:
        topic = owned(self.deployment, "task.status")
        async with (
            asyncio.timeout(30),
            self.client() as client,
            contextlib.aclosing(client.tail(topic, from_beginning=True)) as events,
        ):
            async for seen in events:
                event = seen.event
                if event.task_id == task and isinstance(event, TaskStatus) and event.state == state:
                    return event
        raise AssertionError(state)

    async def count(self, topic: str, task: str) -> int:
        async with self.client() as client:
            found = client.tail(owned(self.deployment, topic), from_beginning=True, follow=False)
            return len([seen async for seen in found if seen.event.task_id == task])

    async def ls(self, **wanted: Any) -> list[dict[str, Any]]:
        self.printed()
        await lists.ls(self.place, Wanted(**wanted), as_json=True)
        return self._objects()

    def _objects(self) -> list[dict[str, Any]]:
        """Read what was printed, without what services beside us log."""
        return [json.loads(line) for line in self.printed().splitlines() if line.startswith("{")]

    async def show(self, name: str) -> dict[str, Any]:
        self.printed()
        await lists.show(self.place, name, as_json=True)
        [shown] = self._objects()
        return shown

    async def redrive(self, how: How = QUICK, **wanted: Any) -> tuple[int, str]:
        self.printed()
        code = await decide.redrive(self.place, Wanted(**wanted), how, as_json=False)
        return code, self.printed()

    async def drop(self, why: str, **wanted: Any) -> int:
        return await decide.drop(self.place, Wanted(**wanted), why, as_json=False)


@pytest.fixture(params=["embedded", "kafka"])
def operator(
    request: pytest.FixtureRequest,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    deployment = ""
    if request.param == "kafka":
        deployment = f"t{uuid4().hex[:10]}"
        monkeypatch.setenv("RAA_KAFKA_BOOTSTRAP", request.getfixturevalue("kafka"))
        monkeypatch.setenv("RAA_DEPLOYMENT", deployment)
        monkeypatch.setenv("RAA_KAFKA_PARTITIONS", "2")
    made = Operator(data_folder, request.param, deployment)
    made.printed = lambda: capsys.readouterr().out
    return made


@contextlib.contextmanager
def broken_handler(service: Service, topic: str) -> Iterator[None]:
    """Give a service a defect in one of its handlers, for the block."""
    handlers: Any = service._dispatcher.on

    def defect(*_: object) -> None:
        raise KeyError("a defect in release 7")

    sound = handlers[topic]
    handlers[topic] = On(sound.event, sound.kind, defect)
    yield
    handlers[topic] = sound


@contextlib.contextmanager
def broken_outcome(service: Service, kind: str) -> Iterator[None]:
    """Give a service a defect in what it does with the outcomes of one activity, for the block."""
    handlers: Any = service._dispatcher.completed

    def defect(*_: object) -> None:
        raise KeyError("a defect in release 7")

    sound, handlers[kind] = handlers[kind], defect
    yield
    handlers[kind] = sound


def plan_of(*steps: Mapping[str, Any]) -> Plan:
    return Plan.model_validate({"steps": list(steps), "result": {"ref": steps[-1]["id"]}})


async def test_a_task_whose_event_died_stalls_and_goes_on_by_its_redrive(operator: Operator):
    async with operator.stack() as stack:
        with broken_handler(stack.services["planner"], "step.done"):
            task = await operator.submit()
            status = await operator.status(task, "stalled")
            [cause] = await operator.ls(group="planner")
        assert (cause["count"], cause["open"], cause["error_class"], cause["topic"]) == (
            1, 1, "KeyError", owned(operator.deployment, "step.done"),
        )  # fmt: skip
        letter = await operator.show(cause["fingerprint"])
        where = owned(operator.deployment, "planner.dlq")
        assert status.waiting_for == f"a redrive of step.done {letter['id']} from {where}"
        assert status.waiting_until is not None
        assert (letter["task"], letter["tenant"], letter["attempts"]) == (task, "default", 3)
        assert letter["trace"].startswith("00-")
        code, told = await operator.redrive(fingerprint=cause["fingerprint"])
        assert (code, "1 handled" in told) == (0, True), told
        done = await operator.result(task)
        assert (done.outcome, done.result) == ("succeeded", 2)
        assert await operator.count("step.done", task) == 1, "no other group sees it a second time"
        assert await operator.count("reflection.done", task) == 1
        code, told = await operator.redrive(fingerprint=cause["fingerprint"])
        assert (code, "already redriven: at 20" in told) == (1, True), told
        code, told = await operator.redrive(How(again=True), fingerprint=cause["fingerprint"])
        assert (code, "has ended" in told) == (1, True), told
        assert await operator.count("task.done", task) == 1
        [cause] = await operator.ls()
        assert (cause["open"], cause["redriven"]) == (0, 1)
        assert (await operator.show(letter["id"]))["decision"]["outcome"] == "handled"


async def test_a_quarantined_aggregate_goes_on_and_its_once_tool_is_not_called_again(operator: Operator):
    stamped = operator.folder / "stamped.txt"
    plan = plan_of({"id": "one", "tool": "stamp", "args": {"file": str(stamped)}})
    async with operator.stack() as stack:
        with broken_outcome(stack.services["executor"], "tool"):
            task = await operator.submit(plan=plan.model_dump())
            await operator.status(task, "stalled")
            [cause] = await operator.ls(group="executor")
        letter = await operator.show(cause["fingerprint"])
        assert (letter["kind"], letter["topic"]) == ("aggregate", "step")
        code, told = await operator.redrive(group="executor")
        assert (code, "1 handled" in told) == (0, True), told
        done = await operator.result(task)
        assert (done.outcome, done.result) == ("succeeded", {"lines": 1})
        assert stamped.read_text() == "stamped\n"
        await operator.redrive(How(again=True), group="executor")
        assert stamped.read_text() == "stamped\n"


async def test_a_quarantined_planner_says_so_and_goes_on(operator: Operator):
    async with operator.stack() as stack:
        with broken_outcome(stack.services["planner"], "plan"):
            task = await operator.submit()
            status = await operator.status(task, "stalled")
            [cause] = await operator.ls(group="planner")
        letter = await operator.show(cause["fingerprint"])
        where = owned(operator.deployment, "planner.dlq")
        assert status.waiting_for == f"a redrive of task {letter['id']} from {where}"
        assert await operator.drop("no", ids=frozenset({letter["id"]})) == 1, "its task would never end"
        assert (await operator.redrive(ids=frozenset({letter["id"]})))[0] == 0
        assert (await operator.result(task)).result == 2


async def test_a_task_nobody_helped_in_time_ends_and_can_be_done_again(operator: Operator):
    async with operator.stack(redrive_window_seconds=0.2) as stack:
        with broken_handler(stack.services["reflector"], "step.done"):
            task = await operator.submit(labels={"team": "a"})
            done = await operator.result(task)
        assert done.error is not None
        assert (done.outcome, done.error.code) == ("failed", "stalled")
        [cause] = await operator.ls(task=task, only_open=True)
        letter = await operator.show(cause["fingerprint"])
        assert f"raa dlq redrive --id {letter['id']} --as-new-task" in (done.error.hint or "")
        assert done.error.details["fingerprint"] == cause["fingerprint"]
        code, told = await operator.redrive(ids=frozenset({letter["id"]}))
        assert (code, "--as-new-task does it again" in told) == (1, True), told
        code, told = await operator.redrive(How(as_new_task=True), ids=frozenset({letter["id"]}))
        new = f"again-{letter['id']}"
        assert (code, new in told) == (0, True), told
        again = await operator.result(new)
        assert (again.outcome, again.result, again.labels) == ("succeeded", 2, {"team": "a"})
        assert await operator.count("task.done", task) == 1


async def test_a_poison_submission_is_corrected_and_done(operator: Operator):
    value = operator.folder / "value.json"
    async with operator.stack():
        record = Message(owned(operator.deployment, "task.created"), b"k", b'{"goal": 7, "api_key": "hush"}', ())
        async with operator.client() as client:
            tenant = (("ce_tenant", b"default"),)
            assert await client.bus.publish([Message(record.topic, b"k", record.value, tenant)]) == [None]
        async with asyncio.timeout(20):
            while not (causes := await operator.ls(only_open=True)):  # noqa: ASYNC110  # another process's topic
                await asyncio.sleep(0.1)
        letter = await operator.show(causes[0]["fingerprint"])
        assert letter["value"] == {"goal": 7, "api_key": "***"}
        value.write_text('{"goal": "what is 3 + 4"}')
        assert await edit(operator.place, letter["id"], value, QUICK, as_json=False) == 1, "it was rejected already"
        assert await edit(operator.place, letter["id"], value, How(as_new_task=True), as_json=False) == 0
        assert (await operator.result(f"again-{letter['id']}")).result == 7
        assert [cause["edited"] for cause in await operator.ls()] == [1]


async def test_dropping_the_letter_ends_the_task_it_held_up(operator: Operator):
    async with operator.stack() as stack:
        with broken_handler(stack.services["safety"], "plan.proposed"):
            task = await operator.submit()
            await operator.status(task, "stalled")
            [cause] = await operator.ls(group="safety")
            assert await operator.drop("not worth it", fingerprint=cause["fingerprint"]) == 0
            done = await operator.result(task)
        assert done.error is not None
        assert "it was dropped: not worth it" in done.error.message
        [cause] = await operator.ls()
        assert (cause["open"], cause["dropped"]) == (0, 1)


@pytest.mark.parametrize("operator", ["embedded"], indirect=True)
async def test_without_a_stack_the_decision_waits_for_the_next_one(operator: Operator):
    async with operator.stack() as stack:
        with broken_handler(stack.services["planner"], "step.done"):
            task = await operator.submit()
            await operator.status(task, "stalled")
    code, told = await operator.redrive(group="planner")
    assert (code, "1 sent" in told) == (0, True), told
    async with operator.stack():
        assert (await operator.result(task)).result == 2
