"""Every code block of the README and of the page about own services runs as written and prints what it promises."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raa_router.offline.answer import answer
from tests.integration.readme_blocks import Block, missing_lines, sections
from tests.source_tree import ROOT

README = sections(ROOT / "README.md")
DEAD_LETTERS = sections(ROOT / "docs" / "dead-letters.md")
OWN_SERVICE = sections(ROOT / "docs" / "your-own-service.md")
BLOCK_SECONDS = 120
READY_SECONDS = 60


class Reader:
    """Somebody who follows the README in a folder of their own; what they export is there in the next block."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self._variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAA_", "OPENAI_"))
        }
        self._variables |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
        self._exports = folder / ".exports"
        self._exports.touch()
        self._stacks: list[subprocess.Popen[str]] = []

    def follow(self, blocks: list[Block]) -> None:
        """Run the blocks in order, and compare what they print."""
        printed = ""
        for block in blocks:
            if block.language in {"python", "json"}:
                (self.folder / block.label).write_text(block.text)
            elif block.label == "up":
                self._start(block)
            elif block.language == "sh":
                printed = self._run(block)
            elif block.language == "text":
                missing = missing_lines(block.text, printed)
                assert not missing, f"the page promises {missing}; printed was:\n{printed}"

    def _script(self, block: Block) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", f". ./.exports\n{block.text}\nexport -p > .exports"]

    def _run(self, block: Block) -> str:
        done = subprocess.run(
            self._script(block), cwd=self.folder, env=self._variables, check=False, text=True, timeout=BLOCK_SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"this block ended with {done.returncode}:\n{block.text}\n{done.stdout}"
        return done.stdout

    def _start(self, block: Block) -> None:
        with (self.folder / "up.log").open("w") as log:
            stack = subprocess.Popen(
                self._script(block), cwd=self.folder, env=self._variables, text=True, start_new_session=True,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._stacks.append(stack)
        impatience = threading.Timer(READY_SECONDS, stack.kill)
        impatience.start()
        assert stack.stdout is not None
        first = stack.stdout.readline()
        impatience.cancel()
        assert first.startswith("ready in"), first + (self.folder / "up.log").read_text()

    def leave(self) -> None:
        """Press Ctrl-C in the other terminals."""
        for stack in self._stacks:
            os.killpg(stack.pid, signal.SIGINT)
            assert stack.wait(READY_SECONDS) in {0, 130, -signal.SIGINT}, (self.folder / "up.log").read_text()
            assert stack.stdout is not None
            stack.stdout.close()


@contextmanager
def reader(folder: Path, **variables: str) -> Iterator[Reader]:
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / ".venv").symlink_to(sys.prefix)
    somebody = Reader(folder, variables)
    try:
        yield somebody
    finally:
        somebody.leave()


def test_make_knows_the_two_commands():
    (block,) = README["Two commands"]
    targets = re.findall(r"^make (\w+)", block.text, re.MULTILINE)
    assert targets == ["demo", "test"]
    described = re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) <= set(described)


def test_every_block_that_could_run_is_run():
    run = {"Two commands", "Your first task", "Your own tool", "Your own model", "Your own Kafka producer"}
    assert {title for title, blocks in README.items() if any(block.language for block in blocks)} == run


def test_ones_own_first_task(data_folder: Path):
    with reader(data_folder) as somebody:
        somebody.follow(README["Your first task"])
        page = (data_folder / "wines.html").read_text()
        assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page), "the page loads something"


def test_ones_own_tool(data_folder: Path):
    with reader(data_folder) as somebody:
        somebody.follow(README["Your own tool"])


def test_what_nobody_could_know_is_as_the_honest_limits_say(data_folder: Path):
    with reader(data_folder) as somebody:
        command = 'raa run "Average of NO2(GT) in AirQualityUCI.csv" --input examples/data/AirQualityUCI.csv --json'
        report = json.loads(somebody._run(Block("sh", "", command)))
    assert (report["result"], report["attempts"], report["checked"]) == (pytest.approx(58.14887250187026), 1, False)


class _Endpoint(BaseHTTPRequestHandler):
    """An OpenAI-compatible server; its model follows rules, and wraps its answer in prose as real ones do."""

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "rules", "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = answer(asked["messages"])
        self._send({
            "id": "1", "object": "chat.completion", "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": f"Here is the plan:\n```json\n{said}\n```"}}],
            "usage": {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100},
        })  # fmt: skip

    def _send(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Address of a model server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_ones_own_model(data_folder: Path, endpoint: str):
    with reader(data_folder, OPENAI_BASE_URL=endpoint) as somebody:
        somebody.follow(README["Your own model"])


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_ones_own_kafka_producer(data_folder: Path, kafka: str):
    with reader(data_folder, RAA_KAFKA_BOOTSTRAP=kafka) as somebody:
        somebody.follow(README["Your own Kafka producer"])


def test_ones_own_dead_letters(data_folder: Path):
    with reader(data_folder) as somebody:
        somebody.follow(DEAD_LETTERS["Trying it"])


def test_ones_own_python_program(data_folder: Path):
    with reader(data_folder) as somebody:
        somebody.follow(OWN_SERVICE["From Python"])


def test_ones_own_faststream_service(data_folder: Path, kafka: str):
    with reader(data_folder, RAA_KAFKA_BOOTSTRAP=kafka) as somebody:
        somebody.follow(OWN_SERVICE["With FastStream"])
