"""A model far away that takes its time: answers every chat with one and the same plan, and counts what it was asked.

    python model_server.py PORT SECONDS    serves 127.0.0.1:PORT and answers each chat after so many seconds

Standard library only, started by its path. `GET /stats` tells how many chats wait now, how many waited at most at once,
and how many there were.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any, Final

_PLAN: Final = {
    "steps": [{"id": "a", "tool": "calculate", "args": {"expression": "1 + 1"}}],
    "result": {"ref": "a", "path": "/value"},
}
_ANSWER: Final = {
    "choices": [{"message": {"role": "assistant", "content": json.dumps(_PLAN)}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5},
}
_BACKLOG: Final = 16_384


@dataclass(slots=True)
class Stats:
    """What it was asked."""

    now: int = 0
    most: int = 0
    calls: int = 0


class ModelServer:
    """Answers one request per connection."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self.stats = seconds, Stats()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer; a caller that went away changes nothing."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
            await reader.readexactly(int(lengths[0]) if lengths else 0)
            body = json.dumps(await self._answer(head[0].split(" ")[1])).encode()
            start = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            writer.write(f"{start}connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str) -> dict[str, Any]:
        if path == "/stats":
            return asdict(self.stats)
        if not path.endswith("/chat/completions"):
            return {"data": [{"id": "m"}]}
        stats = self.stats
        stats.now, stats.calls = stats.now + 1, stats.calls + 1
        stats.most = max(stats.most, stats.now)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            stats.now -= 1
        return _ANSWER


async def main(port: int, seconds: float) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(ModelServer(seconds).serve, "127.0.0.1", port, backlog=_BACKLOG)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
