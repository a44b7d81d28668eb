"""The door of the embedded mode: other commands on this machine reach the owner's bus over a local socket."""

import asyncio
import base64
import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from raa_runtime.bus.operations import Operations
from raa_runtime.bus.port import Bus, Message, Record, TopicPartition
from raa_runtime.errors import Misconfigured, PublishRefused
from raa_runtime.guard import outcome_of

MOST_PATH_BYTES: Final = 100
LINE_LIMIT: Final = 4 * 1024 * 1024
Info = Callable[[], Awaitable[dict[str, Any]]]


def socket_path(folder: Path) -> Path:
    """Say where the socket of a data folder is: in it, or by the folder's hash where its path is too long for one."""
    path = folder.resolve() / "raa.sock"
    if len(os.fsencode(path)) <= MOST_PATH_BYTES:
        return path
    own = Path(tempfile.gettempdir()) / f"raa-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Misconfigured(f"{own} is not a folder of yours alone; remove it, or take a shorter data path")
    return own / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.sock"


class SocketServer:
    """Serve one JSON object per line: what clients and operators ask of a bus. Only this user may connect."""

    def __init__(self, bus: Bus, folder: Path, info: Info, operations: Operations | None = None) -> None:
        self._bus, self._path, self._info, self._operations = bus, socket_path(folder), info, operations
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a socket file left by a dead owner is replaced (the lock says who lives)."""
        self._path.unlink(missing_ok=True)
        # bound with no rights for others from its first moment
        former = os.umask(0o177)
        try:
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            bound.bind(os.fspath(self._path))
        finally:
            os.umask(former)
        self._server = await asyncio.start_unix_server(self._serve, sock=bound, limit=LINE_LIMIT)

    async def stop(self) -> None:
        """Close the socket and every conversation."""
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
        try:
            while line := await reader.readline():
                problem = await outcome_of(partial(self._handle, line, reader, writer))
                if isinstance(problem, ConnectionError):
                    return
                if isinstance(problem, Exception):
                    await _send(writer, {"error": str(problem), "class": type(problem).__name__})
        except ValueError:  # a line longer than the limit; what follows is the middle of it
            await outcome_of(
                partial(_send, writer, {"error": f"a line is longer than {LINE_LIMIT} bytes", "class": "ValueError"})
            )
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            if task is not None:
                self._open.discard(task)
            writer.close()

    async def _handle(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; an answer that goes on and on ends when the client goes."""
        request = json.loads(line)
        if not isinstance(request, dict) or "op" not in request:
            raise ValueError('send one JSON object per line, for example {"op": "topics"}')
        if request["op"] != "read":
            await self._answer(request, writer)
            return
        answering = asyncio.create_task(self._answer(request, writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionAbortedError("the client left")
            answering.result()
        finally:
            answering.cancel()
            gone.cancel()
            await asyncio.wait((answering, gone))

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        operation, topics = request["op"], request.get("topics", [])
        if operation == "publish":
            verdicts = await self._bus.publish([message_from(item) for item in request["messages"]])
            await _send(writer, {"verdicts": [_verdict(verdict) for verdict in verdicts]})
        elif operation == "read":
            async for record in self._bus.read(
                topics, from_beginning=request["from_beginning"], follow=request["follow"]
            ):
                await _send(writer, {"record": record_to(record)})
            await _send(writer, {"end": True})
        elif operation in {"end_offsets", "committed"}:
            group = [request["group"]] if operation == "committed" else []
            offsets = await getattr(self._bus, operation)(*group, topics)
            await _send(writer, {"offsets": [[place.topic, place.partition, at] for place, at in offsets.items()]})
        elif operation == "topics":
            await _send(writer, {"topics": await self._bus.topics()})
        elif operation in {"times", "groups"} and self._operations is not None:
            await _send(writer, await _operate(self._operations, request))
        elif operation == "info":
            await _send(writer, {"info": await self._info()})
        else:
            raise ValueError(f"unknown operation {operation!r}")


async def _operate(operations: Operations, request: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "groups":
        return {"groups": await operations.groups()}
    wanted = {TopicPartition(topic, part): offset for topic, part, offset in request["offsets"]}
    return {"times": [[*place, at.isoformat()] for place, at in (await operations.times(wanted)).items()]}


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
    await writer.drain()


def _verdict(verdict: Exception | None) -> dict[str, Any] | None:
    return None if verdict is None else {"refused": isinstance(verdict, PublishRefused), "reason": str(verdict)}


def _b64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def record_to(record: Record) -> list[Any]:
    """Write a record as JSON."""
    headers = [[name, _b64(raw)] for name, raw in record.headers]
    return [
        record.topic,
        record.partition,
        record.offset,
        record.timestamp.isoformat(),
        _b64(record.key),
        _b64(record.value),
        headers,
    ]


def message_to(message: Message) -> list[Any]:
    """Write a message as JSON."""
    return [message.topic, _b64(message.key), _b64(message.value), [[name, _b64(raw)] for name, raw in message.headers]]


def message_from(item: list[Any]) -> Message:
    """Read a message."""
    topic, key, value, headers = item
    return Message(
        topic, _bytes(key) or b"", _bytes(value) or b"", tuple((name, _bytes(raw) or b"") for name, raw in headers)
    )
