"""The client's side of a run, the same for every adapter: submit, see the ends, judge. Standard library only.

An adapter's module runs as a process of its own and is told what to do in JSON lines: it answers "ready" once, and one
report per run. Whatever a library prints goes to standard error.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

BATCH = 500
TEXT_CHARACTERS = 540
Body = dict[str, Any]


class Task(NamedTuple):
    """One task to submit. Tasks of one key must end in the order of `number`."""

    key: str
    number: int
    hot: bool = False

    @property
    def id(self) -> str:
        """Name it."""
        return f"{self.key}.{self.number}"

    def body(self, characters: int = TEXT_CHARACTERS) -> Body:
        """Make what travels through the stages: about 0.6 KB of JSON."""
        return {"key": self.key, "number": self.number, "stage": 0, "text": "x" * characters}


class End(NamedTuple):
    """One task that came out; `stages` is how many it passed, each of which checked that it came in its turn."""

    key: str
    number: int
    stages: int

    @classmethod
    def of(cls, body: Body) -> "End":
        """Read it off a body."""
        return cls(body["key"], body["number"], body["stage"])


class Load(NamedTuple):
    """What to submit: all at once, or at a rate (per second) with intended times that do not wait for anybody."""

    name: str
    size: int
    keys: int = 0
    rate: float | None = None
    hot_share: float = 0.0
    seconds: float = 60.0
    stages: int = 4

    def tasks(self) -> Iterator[Task]:
        """Make the tasks; without `keys` each has its own. The hot ones are spread evenly."""
        numbers: Counter[str] = Counter()
        for index in range(self.size):
            hot = int((index + 1) * self.hot_share) > int(index * self.hot_share)
            key = f"{self.name}-hot" if hot else f"{self.name}-{index % (self.keys or self.size)}"
            yield Task(key, numbers[key], hot)
            numbers[key] += 1


class Judge:
    """Count what came out: lost, twice, out of order within its key, with stages left out."""

    def __init__(self, tasks: Sequence[Task], stages: int) -> None:
        self._expected = {task[:2] for task in tasks}
        self._stages = stages
        self._seen: set[tuple[str, int]] = set()
        self._last: dict[str, int] = {}
        self.duplicates = self.misordered = self.incomplete = self.strange = 0

    def see(self, end: End) -> bool:
        """Take note of an end; says whether it is the first of its task."""
        place = end[:2]
        if place not in self._expected:
            self.strange += 1
            return False
        if place in self._seen:
            self.duplicates += 1
            return False
        self._seen.add(place)
        self.incomplete += end.stages != self._stages
        self.misordered += end.number < self._last.get(end.key, -1)
        self._last[end.key] = max(end.number, self._last.get(end.key, -1))
        return True

    @property
    def complete(self) -> bool:
        """Say whether every task came out."""
        return len(self._seen) == len(self._expected)

    def verdict(self) -> dict[str, int]:
        """Give the counts; a run with anything but zeros beside `ended` is invalid (duplicates are at-least-once)."""
        return {
            "ended": len(self._seen),
            "lost": len(self._expected) - len(self._seen),
            "duplicates": self.duplicates,
            "misordered": self.misordered,
            "incomplete": self.incomplete,
        }


class Client(Protocol):
    """What an adapter does as a client of its system."""

    async def start(self) -> None:
        """Connect and create what the workers need."""
        ...

    async def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks over; returns when they are accepted."""
        ...

    async def ends(self) -> Sequence[End]:
        """Wait for at least one end."""
        ...

    async def stop(self) -> None:
        """Disconnect."""
        ...


class InProcess:
    """A client whose system is a library: each task is a coroutine, so many at once."""

    def __init__(self, run: Callable[[Task], Awaitable[int]], at_once: int = 32) -> None:
        self._run = run
        self._slots = asyncio.Semaphore(at_once)
        self._ended: asyncio.Queue[End] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing to connect."""

    async def submit(self, tasks: Sequence[Task]) -> None:
        """Start them; the slots hold back what is too much."""
        for task in tasks:
            running = asyncio.create_task(self._one(task))
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)

    async def _one(self, task: Task) -> None:
        async with self._slots:
            stages = await self._run(task)
        self._ended.put_nowait(End(task.key, task.number, stages))

    async def ends(self) -> Sequence[End]:
        """Wait for the next one."""
        found = [await self._ended.get()]
        while not self._ended.empty():
            found.append(self._ended.get_nowait())
        return found

    async def stop(self) -> None:
        """Nothing to disconnect."""


async def run(client: Client, load: Load) -> dict[str, Any]:
    """Run one load and report on it; what is not back after `seconds` is lost."""
    tasks = list(load.tasks())
    judge = Judge(tasks, load.stages)
    began = time.monotonic()
    intended = {task[:2]: began + index / load.rate for index, task in enumerate(tasks)} if load.rate else {}
    waited: dict[bool, list[float]] = {False: [], True: []}
    hot = {task[:2] for task in tasks if task.hot}
    finished, silence = began, 0.0
    submitting = asyncio.create_task(_submit(client, tasks, began, load.rate))
    try:
        async with asyncio.timeout(load.seconds):
            while not judge.complete:
                ends = await client.ends()
                silence = max(silence, time.monotonic() - finished)
                finished = time.monotonic()
                for end in ends:
                    if judge.see(end) and intended:
                        waited[end[:2] in hot].append((finished - intended[end[:2]]) * 1000)
            late = await submitting
    except TimeoutError:
        late = 0.0
    finally:
        submitting.cancel()
    report = judge.verdict() | {"count": load.size, "seconds": finished - began, "late_ms": late * 1000}
    report["longest_silence_seconds"] = silence
    return report | {
        name: sorted(waited[kind]) for name, kind in (("waited_ms", False), ("waited_hot_ms", True)) if waited[kind]
    }


async def _submit(client: Client, tasks: Sequence[Task], began: float, rate: float | None) -> float:
    """Submit at the intended times, in batches of what is due; gives how late the latest submission began."""
    if rate is None:
        for start in range(0, len(tasks), BATCH):
            await client.submit(tasks[start : start + BATCH])
        return 0.0
    sent, late = 0, 0.0
    while sent < len(tasks):
        now = time.monotonic() - began
        due = min(len(tasks), int(now * rate) + 1)
        if due > sent:
            late = max(late, now - sent / rate)
            await client.submit(tasks[sent:due])
            sent = due
        await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
    return late


def serve(client: Client) -> None:
    """Be the client's process until standard input ends; on uvloop where there is one."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        from uvloop import new_event_loop  # noqa: PLC0415  # not every environment has it
    except ImportError:
        asyncio.run(_serve(client, answers.write))
        return
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(client, answers.write))


async def _serve(client: Client, answer: Callable[[str], Any]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await client.start()
    answer('"ready"\n')
    while line := await reader.readline():
        answer(json.dumps(await run(client, Load(**json.loads(line)))) + "\n")
    await client.stop()


def pass_on(body: Body, stage: int) -> Body:
    """Do what a stage does: check that the task comes in its turn, and count."""
    if body["stage"] != stage:
        raise ValueError(f"the task {body['key']} came to stage {stage} after {body['stage']} stages")
    return body | {"stage": stage + 1}
