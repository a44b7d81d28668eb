"""F16: a cache that is lost, flushed or slow costs time, but never a second call to a model, and changes no end."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from typing import Final

import pytest
from redis import Redis

from raa_schemas.task import TaskCreated
from tests.faults.exposed import WHERE, Exposed
from tests.faults.judged import check, judged
from tests.faults.load import mixed
from tests.faults.report import LONG, Row

TASKS: Final = 100 if LONG else 8
SLOW_MS: Final = 3_000
CHATS: Final = 50 if LONG else 5
_ENDS_SECONDS: Final = 180


def asked(prefix: str) -> list[TaskCreated]:
    """Give tasks whose plans a model makes."""
    constraints = {"memory": "off", "deadline_seconds": 900}
    bodies = [
        {"task_id": f"{prefix}{number}", "goal": f"What is {number} + 1?", "constraints": constraints}
        for number in range(TASKS)
    ]
    return [TaskCreated.model_validate(body) for body in bodies]


def chat(exposed: Exposed, number: int) -> bool:
    """Ask the router as a service does; gives whether the answer is one it had."""
    body = json.dumps({"messages": [{"role": "user", "content": f"Chat {number}"}]}).encode()
    headers = {
        "content-type": "application/json",
        "x-raa-tenant": exposed.trial.tenant,
        "idempotency-key": f"{exposed.trial.tenant}-{number}",
    }
    address = exposed.trial.house.processes["router-1"].address
    request = urllib.request.Request(f"{address}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bool(json.load(answer)["raa"]["cached"])


def model_calls(exposed: Exposed) -> int:
    """Ask the model how many chats it was asked for."""
    with urllib.request.urlopen(f"{exposed.model}/stats") as answer:
        return int(json.load(answer)["calls"])


def lost(exposed: Exposed) -> Callable[[], object]:
    """Kill it; healed when it runs again."""
    exposed.cache.server.kill()
    return exposed.cache.on


def flushed(exposed: Exposed) -> Callable[[], object]:
    """Let it forget all."""
    with Redis.from_url(f"redis://{exposed.cache.upstream}/0") as server:
        server.flushall()
    return lambda: None


def slow(exposed: Exposed) -> Callable[[], object]:
    """Let it answer late."""
    fault = exposed.cache.way.fault("latency", latency=SLOW_MS)
    return lambda: exposed.cache.way.heal(fault)


async def without_cache(exposed: Exposed, hurt: Callable[[Exposed], Callable[[], object]]) -> dict[str, float]:
    """Do the same before the cache is hurt, and while it is."""
    load = exposed.trial.load()
    await load.submit([*asked("a"), *mixed(TASKS, "m")])
    await load.until_ended(seconds=_ENDS_SECONDS)
    known = [await asyncio.to_thread(chat, exposed, number) for number in range(CHATS)]
    before = model_calls(exposed)
    heal = hurt(exposed)
    try:
        known += [await asyncio.to_thread(chat, exposed, number) for number in range(CHATS)]
        repeated = model_calls(exposed) - before
        await load.submit([*asked("b"), *mixed(TASKS, "n")])
        await load.until_ended(seconds=_ENDS_SECONDS)
    finally:
        heal()
    assert known == [False] * CHATS + [True] * CHATS
    return {"chats_again": CHATS, "model_asked_again": repeated, "model_calls": model_calls(exposed) - before}


@pytest.mark.parametrize("hurt", [lost, flushed, slow])
def test_tasks_come_to_the_same_without_their_cache(
    on_proxied: Exposed, report: list[Row], hurt: Callable[[Exposed], Callable[[], object]]
) -> None:
    pids = on_proxied.pids()
    figures = asyncio.run(without_cache(on_proxied, hurt))
    ended = sum(pid != on_proxied.pids().get(name) for name, pid in pids.items())
    how = f"cache {hurt.__name__}"
    row = asyncio.run(judged(on_proxied.trial, f"F16 {hurt.__name__}", WHERE, how, **figures, processes_ended=ended))
    report.append(row)
    check(row, 4 * TASKS)
    assert ended == 0
    assert row.figures["unknown_outcomes"] == 0
    assert row.figures["model_asked_again"] == 0, "the store knows each answer"
    assert row.figures["model_calls"] == TASKS
