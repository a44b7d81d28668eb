"""Whatever comes in: a clear error that says what to do, nothing lost, and the services go on."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from raa_client.connect import connect
from raa_client.errors import InputUnusable
from raa_runtime.bus.port import Bus, Message, Record
from raa_schemas.task import TaskDone
from tests.e2e.house import House, all_in_one, running
from tests.e2e.story import run, task
from tests.waiting import wait_until

MEGABYTE = 1_000_000
GOOD = b'{"goal": "what is 1 + 1"}'
BIG_BYTES = int(os.environ.get("RAA_TEST_BIG_MEGABYTES", "60")) * MEGABYTE
MOST_GROWTH_BYTES = 400 * MEGABYTE


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="raa-") as made:
        (Path(made) / "inputs").mkdir()
        yield Path(made)


@pytest.fixture(scope="module")
def inputs(folder: Path) -> Path:
    return folder / "inputs"


@pytest.fixture(scope="module")
def stack(folder: Path, inputs: Path) -> Iterator[House]:
    with running(all_in_one(folder / "data", input_roots=str(inputs))) as house:
        yield house


@pytest.fixture(autouse=True)
def goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test on the shared stack a good task is done as ever."""
    yield
    if "stack" in request.fixturenames:
        stack = request.getfixturevalue("stack")
        done = end_of(stack)
        assert (done.outcome, done.result) == ("succeeded", 2)
        assert stack.alive()


def end_of(house: House, goal: str = "what is 1 + 1", **given: Any) -> TaskDone:
    return asyncio.run(run(house, task(f"t-{uuid4().hex[:8]}", goal, **given)))


def refused(done: TaskDone, outcome: str, code: str, *texts: str) -> None:
    """Check that a task ended with this error, which names these texts and a remedy."""
    assert done.error is not None
    assert (done.outcome, done.error.code) == (outcome, code), done.error
    assert done.error.hint
    told = f"{done.error.message}; {done.error.hint}"
    for text in texts:
        assert text in told


# records


def headers(record: Record) -> dict[str, str]:
    return {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}


async def first(bus: Bus, topic: str, key: bytes) -> Record:
    async for record in bus.read([topic], from_beginning=True, follow=True):
        if record.key == key:
            return record
    raise AssertionError(topic)


async def fate_of(house: House, value: bytes, given: tuple[tuple[str, bytes], ...]) -> tuple[Record, TaskDone]:
    """Put a record on task.created; gives its only dead letter and its rejection."""
    key = f"default/{uuid4().hex}".encode()
    async with connect(house.settings) as client, asyncio.timeout(20):
        assert await client.bus.publish([Message("task.created", key, value, given)]) == [None]
        letter = await first(client.bus, "planner.dlq", key)
        place = (int(headers(letter)["dl_partition"]), int(headers(letter)["dl_offset"]))
        async for ended in client.tail("task.done", from_beginning=True):
            origin = ended.event.origin  # type: ignore[attr-defined]
            if origin and (origin.partition, origin.offset) == place:
                break
        letters = [
            record
            async for record in client.bus.read(["planner.dlq", "reflector.dlq"], from_beginning=True, follow=False)
            if record.key == key
        ]
    assert len(letters) == 1
    assert isinstance(ended.event, TaskDone)
    return letter, ended.event


@pytest.mark.parametrize(
    ("value", "given", "code", "why"),
    [
        (
            GOOD,
            (("ce_id", b"1"), ("ce_type", b"task.created"), ("ce_dataschema", b"task.created.v2.json")),
            "record_invalid",
            "a new major version has its own topic",
        ),
        (b'{"goal": "' + b"x" * 1_048_576 + b'"}', (), "record_invalid", "pass large values as blobs"),
        (GOOD, (("note", b"\xff\xfe"),), "record_invalid", "send text headers only"),
        (b'{"labels": {"team": "blue"}}', (), "goal_missing", "goal"),
        (b'{"goal": "  "}', (), "goal_missing", "say in words what is wanted"),
        (b'{"goal": ', (), "record_invalid", "not JSON"),
        (b"\xff", (), "record_invalid", "not UTF-8"),
    ],
    ids=["major version", "over 1 MB", "header not UTF-8", "no goal", "empty goal", "not JSON", "not UTF-8"],
)
def test_a_record_that_is_no_task_is_one_dead_letter_and_one_readable_rejection(
    stack: House, value: bytes, given: tuple[tuple[str, bytes], ...], code: str, why: str
) -> None:
    letter, done = asyncio.run(fate_of(stack, value, given))
    assert letter.value == value
    assert why in headers(letter)["dl_message"]
    refused(done, "rejected", code, why)


def test_a_check_that_does_not_parse_is_told_at_admission(stack: House) -> None:
    refused(end_of(stack, success_check="result >="), "rejected", "check_invalid", "at character 10", "docs/checks.md")


# inputs


@pytest.mark.parametrize("uri", ["file:/etc/passwd", "file:{inputs}/../../../etc/passwd", "file:{inputs}/link.csv"])
def test_a_file_outside_the_roots_is_not_read(stack: House, inputs: Path, uri: str) -> None:
    link = inputs / "link.csv"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc/passwd")
    done = end_of(stack, inputs=[{"name": "x.csv", "uri": uri.format(inputs=inputs)}])
    refused(done, "rejected", "input_outside_roots", "outside the input roots", "RAA_INPUT_ROOTS")


def test_a_missing_file_is_named(stack: House, inputs: Path) -> None:
    done = end_of(stack, inputs=[{"name": "x.csv", "uri": f"file:{inputs}/nowhere.csv"}])
    refused(done, "rejected", "input_missing", "nowhere.csv", "check the path")


def test_a_client_is_told_that_its_file_is_missing_before_anything_is_sent(stack: House, inputs: Path) -> None:
    with pytest.raises(InputUnusable, match=r"nowhere\.csv; check the path"):
        asyncio.run(run(stack, task("t-missing", "Average of a in nowhere.csv"), [inputs / "nowhere.csv"]))


def mean_of(name: str) -> dict[str, Any]:
    query = {"table": {"file": name}, "select": [{"fn": "mean", "column": "value", "as": "mean"}]}
    return {
        "steps": [{"id": "mean", "tool": "table.query", "args": query}],
        "result": {"ref": "mean", "path": "/rows/0/mean"},
    }


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("empty.csv", b"", "empty_file"), ("binary.csv", bytes(range(256)) * 64, "not_a_table")],
)
def test_a_file_that_is_no_table_fails_its_task_by_name(
    stack: House, inputs: Path, name: str, content: bytes, code: str
) -> None:
    (inputs / name).write_bytes(content)
    given: dict[str, Any] = {"inputs": [{"name": name, "uri": f"file:{inputs / name}"}]}
    done = end_of(stack, plan=mean_of(name), **given)
    assert done.error is not None
    assert (done.outcome, name in done.error.message) == ("failed", True), done.error
    assert code in {done.error.code, done.error.details.get("step_error", {}).get("code")}
    assert end_of(stack, f"Average of value in {name}", **given).outcome == "failed"


def test_a_file_of_one_column_is_a_table(stack: House, inputs: Path) -> None:
    (inputs / "one.csv").write_text("value\n" + "\n".join(map(str, range(100))) + "\n")
    done = end_of(stack, "Average of value in one.csv", inputs=[{"name": "one.csv", "uri": f"file:{inputs}/one.csv"}])
    assert (done.outcome, done.result) == ("succeeded", 49.5)


def peak_memory(house: House) -> int:
    """Give the largest resident size so far of the stack, in bytes."""
    (process,) = house.processes.values()
    status = Path(f"/proc/{process.process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc to read a process's memory from")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_a_big_file_is_streamed_in_bounded_memory(stack: House, inputs: Path) -> None:
    big = inputs / "big.csv"
    block = "".join(f"{number},{number % 7},some words to fill the row up\n" for number in range(20_000)).encode()
    with big.open("wb") as file:
        file.write(b"id,value,text\n")
        while file.tell() < BIG_BYTES:
            file.write(block)
    before = peak_memory(stack)
    done = end_of(stack, "Average of value in big.csv", inputs=[{"name": "big.csv", "uri": f"file:{big}"}])
    big.unlink()
    truth = sum(number % 7 for number in range(20_000)) / 20_000
    assert (done.outcome, done.result) == ("succeeded", pytest.approx(truth))
    assert peak_memory(stack) - before < MOST_GROWTH_BYTES


# plans and models


def test_a_plan_with_an_unknown_tool_says_how_to_list_them(stack: House) -> None:
    done = end_of(stack, plan={"steps": [{"id": "a", "tool": "no.such", "args": {}}], "result": None})
    refused(done, "failed", "unknown_tool", "no.such", "raa tools ls")


def test_a_plan_that_waits_for_itself_names_the_circle(stack: House) -> None:
    steps = [
        {"id": one, "tool": "calculate", "after": [other], "args": {"expression": "1", "values": {}}}
        for one, other in (("a", "b"), ("b", "a"))
    ]
    refused(end_of(stack, plan={"steps": steps, "result": None}), "failed", "plan_invalid", "a → b → a")


GARBAGE = {
    "prose": "I would be happy to help you with that!",
    "half": '```json\n{"steps": [{"id": "a", "tool": "calc',
    "other": '{"answer": 42}',
    "invented": '{"steps": [{"id": "a", "tool": "oracle.ask", "args": {}}], "result": {"ref": "a"}}',
    "list": "[1, 2, 3]",
}
NO_ANSWER = {"silence": b'{"choices": [{"message": {"content": ""}}]}', "html": b"<html>It works!</html>"}


class GarbageModel(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint whose answer is the kind of garbage that the goal names."""

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": [{"id": "garbage", "object": "model"}]})

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        kind = next(kind for kind in (*GARBAGE, *NO_ANSWER) if f"garbage {kind}" in asked)
        if kind in NO_ANSWER:
            self._answer_bytes(NO_ANSWER[kind])
            return
        message = {"role": "assistant", "content": GARBAGE[kind]}
        self._answer(
            {
                "id": "1",
                "object": "chat.completion",
                "model": "garbage",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        )

    def _answer(self, body: Any) -> None:
        self._answer_bytes(json.dumps(body).encode())

    def _answer_bytes(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the method it replaces
        """Say nothing."""


@contextmanager
def garbage_model() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), GarbageModel)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_model_that_answers_garbage_fails_its_tasks_and_nothing_else() -> None:
    with (
        TemporaryDirectory(prefix="raa-") as folder,
        garbage_model() as url,
        running(
            all_in_one(
                Path(folder), openai_base_url=url, openai_model="garbage", retry_seconds="1", plan_timeout_seconds="2"
            )
        ) as house,
    ):
        for kind in GARBAGE:
            done = end_of(house, f"garbage {kind}")
            assert done.error is not None
            assert (done.outcome, done.error.code) == (
                "failed",
                "unknown_tool" if kind == "invented" else "model_garbage",
            ), (kind, done.error)
            assert done.error.hint
        for kind in NO_ANSWER:
            refused(end_of(house, f"garbage {kind}"), "failed", "model_unavailable", "raa model test")
        plan = {
            "steps": [{"id": "a", "tool": "calculate", "args": {"expression": "1 + 1", "values": {}}}],
            "result": {"ref": "a", "path": "/value"},
        }
        assert end_of(house, plan=plan).result == 2


# the machine


def test_a_second_stack_on_the_same_folder_is_told_who_owns_it(stack: House) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "raa_cli", "up", "--data", str(stack.settings.data)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode != 0
    assert f"process {stack.processes['raa'].process.pid} already runs" in second.stderr
    assert "--data" in second.stderr
    assert "Traceback" not in second.stderr


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk to fill: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Write a file until there is no space left, down to the last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MEGABYTE, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


async def lacking(house: House) -> dict[str, Any]:
    async with connect(house.settings) as client:
        missing: dict[str, Any] = (await client.bus.info())["missing"]  # type: ignore[attr-defined]
        return missing


def until_ready(house: House, *, ready: bool) -> dict[str, Any]:
    """Wait until nothing is missing, or until something is."""
    wait_until(lambda: bool(asyncio.run(lacking(house))) != ready)
    return asyncio.run(lacking(house))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk to fill")
def test_a_full_disk_makes_it_not_ready_and_it_resumes_when_there_is_space() -> None:
    with (
        TemporaryDirectory(prefix="raa-") as folder,
        TemporaryDirectory(prefix="raa-") as logs,
        small_disk(Path(folder), 24) as disk,
    ):
        house = all_in_one(disk / "data", logs=Path(logs))
        with running(house):
            names = [f"t-{number}" for number in range(30)]
            asyncio.run(submit_all(house, names))
            ballast = fill(disk)
            missing = until_ready(house, ready=False)
            assert "full" in json.dumps(missing)
            assert house.alive()
            ballast.unlink()
            until_ready(house, ready=True)
            assert set(asyncio.run(results(house, names))) == {"succeeded"}
            assert end_of(house).result == 2


async def submit_all(house: House, names: list[str]) -> None:
    async with connect(house.settings) as client:
        for name in names:
            await client.submit(task(name, "what is 1 + 1"))


async def results(house: House, names: list[str]) -> list[str]:
    async with connect(house.settings) as client:
        return [(await client.result(name, 30)).outcome for name in names]
