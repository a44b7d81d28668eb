"""Safety over HTTP: its public keys, cached for a few minutes, and its kill switch, never cached."""

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from raa_executor.ports import Signature
from raa_runtime.errors import DependencyUnavailable

TENANT_HEADER: Final = "x-raa-tenant"
# a withdrawn key is believed no longer than this
_BELIEVED_SECONDS: Final = 600.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


class HttpKeyRing:
    """Safety's public keys. A ring that is too old knows none, so that somebody refreshes it."""

    def __init__(
        self, http: aiohttp.ClientSession, safety_url: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._http = http
        self._url = f"{safety_url.rstrip('/')}/v1/keys"
        self._monotonic = monotonic
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched = monotonic()

    def check(self, key_id: str, content: bytes, signature: str) -> Signature:
        key = self._keys.get(key_id)
        if key is None or self._monotonic() - self._fetched > _BELIEVED_SECONDS:
            return "unknown_key"
        try:
            key.verify(base64.b64decode(signature, validate=True), content)
        except (InvalidSignature, binascii.Error, ValueError):
            return "bad"
        return "good"

    async def refresh(self) -> None:
        """Fetch the keys; raises DependencyUnavailable."""
        answer = await _get(self._http, self._url, {})
        try:
            self.learn({str(row["key_id"]): row["public_key"] for row in answer["keys"]})
        except (KeyError, TypeError, ValueError) as malformed:
            raise DependencyUnavailable(f"{self._url} did not answer with a list of keys: {malformed}") from None

    def learn(self, keys: Mapping[str, str]) -> None:
        """Take these keys (key id to raw public key in base64) for all there are; raises ValueError."""
        self._keys = {
            key_id: Ed25519PublicKey.from_public_bytes(base64.b64decode(raw, validate=True))
            for key_id, raw in keys.items()
        }
        self._fetched = self._monotonic()


class HttpKillSwitch:
    """Safety's kill switch, read freshly for every call."""

    def __init__(self, http: aiohttp.ClientSession, safety_url: str) -> None:
        self._http = http
        self._url = f"{safety_url.rstrip('/')}/v1/killswitch"

    async def closed(self, tenant: str) -> str | None:
        try:
            answer = await _get(self._http, self._url, {"tenant": tenant})
        except DependencyUnavailable as away:
            return f"the kill switch cannot be read: {away}"
        return None if isinstance(answer, dict) and answer.get("on") is False else "the kill switch is on"

    async def ping(self) -> None:
        """Ask safety whether it is alive; raises DependencyUnavailable."""
        await _get(self._http, f"{self._url.removesuffix('/v1/killswitch')}/healthz", {})


async def _get(http: aiohttp.ClientSession, url: str, query: dict[str, str]) -> Any:
    headers = {TENANT_HEADER: query["tenant"]} if "tenant" in query else {}
    try:
        async with http.get(url, params=query, headers=headers, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            return await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
        reason = str(problem) or type(problem).__name__
        raise DependencyUnavailable(f"{url} does not answer ({reason}); is safety up?") from None
