"""The HTTP side of a service: its own routes, health, readiness and metrics, on a socket it was given."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping

import uvicorn
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse

from raa_runtime.guard import outcome_of
from raa_runtime.telemetry import Metrics

Ping = Callable[[], Awaitable[None]]
PING_SECONDS = 2.5
# Longer than our clients keep an idle connection (15 s), or they would send on one that is just being closed.
KEEP_ALIVE_SECONDS = 75


def listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 takes a free one."""
    # With the protocol named, asyncio switches Nagle's algorithm off; without it each answer waits 40 ms for an ACK.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the service decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serve until stopped. `state` gives what is not ready, by name; readiness is that it gives nothing."""

    def __init__(self, name: str, sock: socket.socket, routes: APIRouter | None, metrics: Metrics,
                 unready: Callable[[], Mapping[str, str]], pings: Mapping[str, Ping]) -> None:
        self._sock = sock
        self._unready, self._pings = unready, pings
        self._metrics = metrics
        app = FastAPI(title=f"raa {name}", docs_url=None, redoc_url=None)
        app.include_router(self._operations())
        if routes is not None:
            app.include_router(routes)
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none",
                                timeout_graceful_shutdown=2, timeout_keep_alive=KEEP_ALIVE_SECONDS,
                                server_header=False, date_header=False)
        self.app = app
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Give the base URL."""
        host, port = self._sock.getsockname()[:2]
        return f"http://{host}:{port}"

    def _operations(self) -> APIRouter:
        routes = APIRouter()

        @routes.get("/healthz")
        async def healthz() -> dict[str, str]:
            """Say that the process answers."""
            return {"status": "ok"}

        @routes.get("/readyz")
        async def readyz() -> JSONResponse:
            """Say whether it can do its work, and name what is missing."""
            missing = await self.missing()
            return JSONResponse({"ready": not missing, "missing": missing}, status_code=503 if missing else 200)

        @routes.get("/metrics")
        async def metrics() -> Response:
            """Give the metrics in the Prometheus text format."""
            return Response(self._metrics.exposition(), media_type="text/plain; version=0.0.4")

        return routes

    async def missing(self) -> dict[str, str]:
        """Ping everything by name; returns what does not answer, and why."""
        missing = dict(self._unready())
        names = list(self._pings)
        answers = await asyncio.gather(*(self._ping(name) for name in names))
        return missing | {name: problem for name, problem in zip(names, answers, strict=True) if problem}

    async def _ping(self, name: str) -> str | None:
        async def ping() -> None:
            async with asyncio.timeout(PING_SECONDS):
                await self._pings[name]()

        problem = await outcome_of(ping)
        return None if problem is None else f"{type(problem).__name__}: {problem}"

    async def start(self) -> None:
        """Accept connections."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._sock]), name="http")
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish open requests for at most 2 seconds, then stop."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
