"""A far side that remembers: does what the ledger tools ask for, writes it down first, and answers badly on request.

    python tool_server.py PORT LEDGER    serves 127.0.0.1:PORT and appends to the file LEDGER, one JSON line per request

Standard library only, started by its path, so that nothing of the tested code runs in it. A line is flushed to the
file before its request is answered. `POST /call` does the action: a `keyed` one whose key it knows is answered from the
ledger. `POST /probe` says whether a key was done. How it answers is told in the request: `mode` is `plain`, `delay`
(after `seconds`), `hang` (never) or `drop` (closes the connection without a word, the first time it sees the key).
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

FIELDS: Final = ("effect", "key", "epoch", "instance", "tenant", "task", "step", "args_hash")
_FOREVER_SECONDS: Final = 3_600.0


class Ledger:
    """The file, and what is known from it; a restarted server still knows every key."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text().splitlines() if path.exists() else []
        self.receipts: dict[str, int] = {}
        for line in lines:
            self._count(json.loads(line))
        self._file = path.open("a")

    def write(self, phase: str, asked: dict[str, Any]) -> None:
        """Append one line; it outlives this process, and whoever asked."""
        line = {"at": time.time(), "phase": phase} | {name: asked.get(name, "") for name in FIELDS}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._count(line)

    def _count(self, line: dict[str, Any]) -> None:
        if line["phase"] == "received" and line["key"] not in self.receipts:
            self.receipts[line["key"]] = len(self.receipts) + 1


class ToolServer:
    """Answers one request per connection."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request, do what it asks, answer it or not; a caller that went away changes nothing."""
        try:
            path, asked = await _request(reader)
            answer = await (self._probe(asked) if path == "/probe" else self._call(asked))
            if answer is not None:
                body = json.dumps(answer).encode()
                head = f"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _probe(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._ledger.write("probed", asked)
        return {"receipt": self._ledger.receipts.get(asked["key"])}

    async def _call(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        fresh = asked["key"] not in self._ledger.receipts
        self._ledger.write("received", asked)
        mode, seconds = asked.get("mode", "plain"), float(asked.get("seconds", 0))
        if mode == "drop" and fresh:
            return None
        await asyncio.sleep({"hang": _FOREVER_SECONDS, "delay": seconds}.get(mode, 0))
        self._ledger.write("answered", asked)
        return {"receipt": self._ledger.receipts[asked["key"]]}


async def _request(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
    body: dict[str, Any] = json.loads(await reader.readexactly(int(lengths[0])) if lengths else b"{}")
    return head[0].split(" ")[1], body


async def main(port: int, ledger: Path) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(ToolServer(Ledger(ledger)).serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
