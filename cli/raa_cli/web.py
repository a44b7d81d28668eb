"""Asks a service's HTTP routes."""

import asyncio
import json
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from raa_cli.execute import CommandFailed
from raa_runtime.errors import DependencyUnavailable

SECONDS = 10.0


async def ask(url: str, path: str, *, tenant: str = "default", body: Any = None, seconds: float = SECONDS) -> Any:
    """GET, or POST with a body, and read the JSON answer.

    Raises DependencyUnavailable when nobody answers, CommandFailed when the answer is a refusal.
    """
    return await asyncio.to_thread(_ask, url, path, tenant, body, seconds)


async def scrape(url: str, seconds: float = SECONDS) -> str:
    """GET the metrics of a service, as text; raises DependencyUnavailable and CommandFailed."""
    return await asyncio.to_thread(_scrape, url, seconds)


def _scrape(url: str, seconds: float) -> str:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.netloc, timeout=seconds)
    try:
        connection.request("GET", parts.path.rstrip("/") + "/metrics")
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, HTTPException) as problem:
        raise DependencyUnavailable(f"{url} does not answer: {problem}") from None
    finally:
        connection.close()
    if response.status >= 400:
        raise CommandFailed(f"{url}/metrics answered {response.status}; is that the address of a service?")
    return text


def _ask(url: str, path: str, tenant: str, body: Any, seconds: float) -> Any:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.netloc, timeout=seconds)
    headers = {"x-raa-tenant": tenant, "content-type": "application/json"}
    try:
        connection.request(
            "GET" if body is None else "POST",
            parts.path.rstrip("/") + path,
            None if body is None else json.dumps(body),
            headers,
        )
        return _read(connection.getresponse(), url + path)
    except (OSError, HTTPException) as problem:
        raise DependencyUnavailable(f"{url} does not answer: {problem}; see `raa doctor`") from None
    finally:
        connection.close()


def _read(response: HTTPResponse, where: str) -> Any:
    try:
        answer = json.loads(response.read())
    except ValueError:
        answer = None
    if response.status >= 400 or answer is None:
        raise CommandFailed(f"{where} answered {response.status}: {_reason(answer)}")
    return answer


def _reason(answer: Any) -> str:
    if not isinstance(answer, dict):
        return "no JSON; see the service's log"
    problem = answer.get("error", answer.get("detail", answer))
    return str(problem.get("message", problem)) if isinstance(problem, dict) else str(problem)
