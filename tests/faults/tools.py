"""Tools of a user whose far side keeps a ledger, one per effect class; loaded by `raa up --tools`, as any user's are.

Each posts who calls it with which key to the server that the variable RAA_TEST_LEDGER names. Two modes end the process
that runs the tool, once per key: `die_before` before it asks for anything, `die_after` when it holds the answer, so
that the crash lies between the tool's return and the write of its outcome. Other modes are the server's.
"""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raa_executor.tools.context import Happened
from raa_executor.tools.registry import CallContext, ToolError, tool

TIMEOUT_SECONDS = float(os.environ.get("RAA_TEST_TOOL_SECONDS", "30"))


@tool(name="ledger.read", effect="read", risk="read", timeout=TIMEOUT_SECONDS)
async def read(note: str, context: CallContext, mode: str = "plain", seconds: float = 0.0) -> dict[str, Any]:
    """Read something far away."""
    return await _post("call", "read", note, context, mode, seconds)


@tool(name="ledger.keyed", effect="keyed", risk="external", timeout=TIMEOUT_SECONDS)
async def keyed(note: str, context: CallContext, mode: str = "plain", seconds: float = 0.0) -> dict[str, Any]:
    """Do something far away, where our key is honoured."""
    return await _post("call", "keyed", note, context, mode, seconds)


async def _happened(note: str, context: CallContext, mode: str = "plain", seconds: float = 0.0) -> Happened | None:
    found = await _post("probe", "checkable", note, context, mode, seconds)
    return Happened(found) if found["receipt"] is not None else None


@tool(name="ledger.checkable", effect="checkable", risk="external", timeout=TIMEOUT_SECONDS, probe=_happened)
async def checkable(note: str, context: CallContext, mode: str = "plain", seconds: float = 0.0) -> dict[str, Any]:
    """Do something far away, where one can look whether it was done."""
    return await _post("call", "checkable", note, context, mode, seconds)


@tool(name="ledger.once", effect="once", risk="external", timeout=TIMEOUT_SECONDS)
async def once(note: str, context: CallContext, mode: str = "plain", seconds: float = 0.0) -> dict[str, Any]:
    """Do something far away that cannot be looked up and must not be repeated."""
    return await _post("call", "once", note, context, mode, seconds)


async def _post(path: str, effect: str, note: str, context: CallContext, mode: str, seconds: float) -> dict[str, Any]:
    asked = {
        "effect": effect,
        "key": context.idempotency_key,
        "epoch": context.epoch,
        "instance": f"{os.environ.get('RAA_INSTANCE', 'raa')}:{os.getpid()}",
        "tenant": context.tenant,
        "task": context.task,
        "step": context.step,
        "args_hash": hashlib.sha256(json.dumps([note, mode, seconds]).encode()).hexdigest(),
        "mode": mode,
        "seconds": seconds,
    }
    if path == "call" and mode == "die_before":
        _die_once(context.idempotency_key)
    found = await _answer(path, json.dumps(asked).encode())
    if path == "call" and mode == "die_after":
        _die_once(context.idempotency_key)
    return found


def _die_once(key: str) -> None:
    """End this process as a power cut would, unless this key did so before."""
    mark = Path(os.environ["RAA_TEST_MARKS"]) / key
    if not mark.exists():
        mark.touch()
        os._exit(137)


async def _answer(path: str, body: bytes) -> dict[str, Any]:
    where = urlsplit(os.environ["RAA_TEST_LEDGER"])
    try:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            writer.write(f"POST /{path} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            answer = (await reader.read()).partition(b"\r\n\r\n")[2]
        finally:
            writer.close()
    except OSError as problem:
        raise ToolError("unavailable", f"the ledger does not answer: {problem}") from None
    if not answer:
        raise ToolError("unavailable", "the ledger closed the connection without an answer")
    found: dict[str, Any] = json.loads(answer)
    return found
