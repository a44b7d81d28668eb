"""The HTTP side of a service: its own routes, health, readiness and metrics, on a socket it was given."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raa_runtime.errors import Misconfigured, TransientError
from raa_runtime.guard import outcome_of
from raa_runtime.telemetry import Metrics

Ping = Callable[[], Awaitable[None]]
PING_SECONDS = 2.5
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
BODY_SECONDS: Final = 30.0
MOST_CONNECTIONS: Final = 1_000
_BACKLOG: Final = 4_096
# Longer than our clients keep an idle connection (15 s), or they would send on one that is just being closed.
KEEP_ALIVE_SECONDS = 75
OPERATIONS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


def listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 takes a free one. Raises Misconfigured when it cannot."""
    # With the protocol named, asyncio switches Nagle's algorithm off; without it each answer waits 40 ms for an ACK.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as problem:
        bound.close()
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {problem.strerror}; set RAA_HTTP_HOST and RAA_HTTP_PORT "
            "to an address that is free (port 0 takes any)"
        ) from None
    return bound


class BodyLimit:
    """Refuse a request body that is too large, or that takes its time, before a route sees all of it."""

    def __init__(self, app: ASGIApp, most_bytes: int = MAX_BODY_BYTES, seconds: float = BODY_SECONDS) -> None:
        self._app, self._most_bytes, self._seconds = app, most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most_bytes:
            answer = JSONResponse({"detail": self._too_large()}, status_code=413, headers={"connection": "close"})
            await answer(scope, receive, send)
            return
        await self._app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        taken, complete = 0, False

        async def counted() -> Message:
            nonlocal taken, complete
            if complete:  # whoever asks now waits for the client to go
                return await receive()
            try:
                async with asyncio.timeout(self._seconds):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not arrive for {self._seconds:.0f} s") from None
            taken += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if taken > self._most_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return counted

    def _too_large(self) -> str:
        return f"the body is larger than {self._most_bytes} bytes; pass large values by reference"


async def _unavailable(_: Request, problem: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(problem)}, status_code=503, headers={"retry-after": "1"})


class Gate:
    """Answer a service's own routes with 503 until it has what they work on; its health is told from the start."""

    def __init__(self, app: ASGIApp, closed: Callable[[], str | None]) -> None:
        self._app, self._closed = app, closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or say what it waits for."""
        why = self._closed()
        if why is not None and scope["type"] == "http" and scope["path"] not in OPERATIONS:
            answer = JSONResponse({"detail": why}, status_code=503, headers={"retry-after": "1"})
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the service decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serve until stopped. `unready` gives what is not ready, by name; readiness is that it gives nothing.

    While `closed` gives a reason, only health, readiness and metrics are served. Without a socket nobody is served, and
    it only knows what is missing.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket | None,
        routes: APIRouter | None,
        metrics: Metrics,
        unready: Callable[[], Mapping[str, str]],
        pings: Mapping[str, Ping],
        closed: Callable[[], str | None] = lambda: None,
        max_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self._sock = sock
        self._unready, self._pings = unready, pings
        self._metrics = metrics
        self._max_connections = max_connections
        self._serving: asyncio.Task[None] | None = None
        if sock is not None:
            self._set_up(name, routes, closed)

    def _set_up(self, name: str, routes: APIRouter | None, closed: Callable[[], str | None]) -> None:
        app = FastAPI(title=f"raa {name}", docs_url=None, redoc_url=None)
        app.add_middleware(BodyLimit)
        app.add_middleware(Gate, closed=closed)
        app.add_exception_handler(TransientError, _unavailable)
        app.include_router(self._operations())
        if routes is not None:
            app.include_router(routes)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=2,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
            proxy_headers=False,  # nobody in front of us speaks for a client
            date_header=False,
            limit_concurrency=self._max_connections,
            backlog=_BACKLOG,  # a restart brings all waiting callers back at once
        )
        self.app = app
        self._server = _Server(config)

    @property
    def url(self) -> str:
        """Give the base URL; empty without a socket."""
        if self._sock is None:
            return ""
        host, port = self._sock.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

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
        if self._sock is None:
            return
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._sock]), name="http")
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish open requests for at most 2 seconds, then stop."""
        if self._sock is None:
            return
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        else:
            self._sock.close()
