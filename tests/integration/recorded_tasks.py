"""Tasks of every kind, run once on an embedded stack, so that tests have something to replay."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from raa_cli.replay.change import Change
from raa_cli.replay.run import Asked
from raa_cli.replay.selection import Selection
from raa_cli.session import Place
from raa_cli.stack import Stack
from raa_client.client import Client
from raa_client.operator import operator_of
from raa_runtime.bus.port import Message
from raa_runtime.telemetry import configure_logging
from raa_schemas.task import TaskCreated, TaskDone
from raa_schemas.topics import topic_of
from tests.source_tree import ROOT

DATA = ROOT / "examples" / "data"
TOOLS = '''
"""Tools with every effect a test needs; what they did lies in a ledger."""

import time
from pathlib import Path

from raa_executor.tools.errors import ToolError
from raa_executor.tools.registry import tool

LEDGER = Path(__file__).with_name("ledger")


def write(text: str) -> int:
    with LEDGER.open("a") as ledger:
        ledger.write(text + "\\n")
    return len(LEDGER.read_text().splitlines())


@tool(effect="once", risk="external", timeout=5)
def pay(amount: float) -> dict[str, float]:
    """Pay an amount."""
    write(f"pay {amount}")
    return {"paid": amount}


@tool(effect="once", risk="workspace", timeout=0.5)
def wire(amount: float) -> dict[str, float]:
    """Send an amount; the first time nobody hears back in time."""
    if write(f"wire {amount}") and LEDGER.read_text().count("wire") == 1:
        time.sleep(2)
    return {"sent": amount}


@tool(effect="read", risk="read", timeout=60)
def nap(seconds: float) -> dict[str, float]:
    """Wait."""
    write("nap")
    time.sleep(seconds)
    return {"slept": seconds}


@tool(effect="read", risk="read", timeout=5)
def flaky(name: str) -> dict[str, str]:
    """Fail the first time."""
    seen = LEDGER.read_text() if LEDGER.exists() else ""
    write(f"flaky {name}")
    if f"flaky {name}" not in seen:
        raise ToolError("tool_timeout", "the first call is always too slow")
    return {"name": name}
'''
AIR, RED, WHITE = "AirQualityUCI.csv", "winequality-red.csv", "winequality-white.csv"
SUM = 'use calculate with expression="6 * 7"'
COMPARE = f"Compare the mean alcohol of {RED} and {WHITE} and write report.md"


def mean(column: str, **more: Any) -> TaskCreated:
    """A task about one column of the air quality file."""
    return TaskCreated.model_validate({"goal": f"Average of {column} in {AIR}", "success_check": "result >= 0"} | more)


class Town:
    """A data folder with recorded tasks; nobody runs on it any more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = folder / "tools" / "own.py"
        self.data = folder / "data"
        self.done: dict[str, TaskDone] = {}

    @property
    def place(self) -> Place:
        return Place(self.data)

    @property
    def ledger(self) -> str:
        return self.tools.with_name("ledger").read_text()

    def asked(self, *tasks: str, change: Change = Change(), **more: Any) -> Asked:  # noqa: B008  # frozen
        """What `raa replay` is asked about these tasks; all, unless named."""
        chosen = Selection(list(tasks) or list(self.done))
        return Asked(self.place, chosen, change, [self.tools], **more)

    def contents(self) -> dict[str, str]:
        """Hash every file of the data folder."""
        files = (path for path in sorted(self.data.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    async def record(self) -> None:
        """Run the tasks."""
        configure_logging("error")
        self.tools.parent.mkdir(parents=True)
        self.tools.write_text(TOOLS)
        self.data.mkdir()
        operator = operator_of(self.data)
        async with Stack(self.data, environment={}, tools=[self.tools], drain_seconds=1) as stack:
            await stack.ready()
            client = Client(stack.bus, stack.blobs)

            async def answered(task: str, verdict: Any) -> None:
                asked = await _until(lambda: client.open_approvals(task))
                await client.decide(asked[0], verdict, "so decided", operator)

            await self._run(client, "learns", mean("CO(GT)"), AIR)
            await self._run(client, "uses", mean("C6H6(GT)"), AIR)
            await self._run(client, "forgets", mean("C6H6(GT)", constraints={"memory": "off"}), AIR)
            await self._run(client, "compares", TaskCreated(goal=COMPARE), RED, WHITE)
            await self._run(client, "cannot", TaskCreated(goal="forecast the weather of next year"))
            await self._run(client, "retries", TaskCreated(goal='use flaky with name="a"'))
            await client.submit(TaskCreated(task_id="pays", goal="use pay with amount=3"))
            await answered("pays", "approve")
            await client.submit(TaskCreated(task_id="refused", goal="use pay with amount=4"))
            await answered("refused", "deny")
            await client.submit(TaskCreated(task_id="unsure", goal="use wire with amount=7"))
            await answered("unsure", "not_happened")
            soon = {"not_before": datetime.now(UTC) + timedelta(seconds=1)}
            await client.submit(TaskCreated.model_validate({"task_id": "later", "goal": SUM, "constraints": soon}))
            bare = Message(topic_of(TaskCreated).name, b"", json.dumps({"task_id": "bare", "goal": SUM}).encode(), ())
            await stack.bus.publish([bare])
            await client.submit(TaskCreated(task_id="cancelled", goal="use nap with seconds=4"))
            await _until(lambda: _started(client, "cancelled"))
            await client.cancel("cancelled", "enough", "somebody")
            hurried = {"task_id": "expired", "goal": "use nap with seconds=5", "constraints": {"deadline_seconds": 1}}
            await client.submit(TaskCreated.model_validate(hurried))
            for task in ("pays", "refused", "unsure", "later", "bare", "cancelled", "expired"):
                self.done[task] = await client.result(task, 30)
            await client.submit(TaskCreated(task_id="waits", goal="use pay with amount=5"))
            await _until(lambda: client.open_approvals("waits"))

    async def _run(self, client: Client, task_id: str, task: TaskCreated, *files: str) -> None:
        inputs = [await client.attach(task_id, DATA / name) for name in files]
        await client.submit(task.model_copy(update={"task_id": task_id, "inputs": inputs}))
        self.done[task_id] = await client.result(task_id, 60)


async def _started(client: Client, task: str) -> bool:
    return any(seen.envelope.type == "step.started" for seen in await client.history(task))


async def _until(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(30):
        while not (found := await look()):  # noqa: ASYNC110  # the bus is asked: nobody announces it
            await asyncio.sleep(0.05)
    return found


def told(text: str) -> dict[str, Any]:
    """Read what a command printed as JSON."""
    parsed: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return parsed
