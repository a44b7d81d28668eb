"""Stored answers before the store: a replay costs one look into the cache; the store alone decides."""

from datetime import timedelta

from pydantic import BaseModel, ValidationError

from raa_router.domain.chat import Answer
from raa_runtime.errors import RaaError
from raa_runtime.kv import KeyValue
from raa_runtime.scope import TenantScope
from raa_runtime.telemetry import Logger


class _Cached(BaseModel):
    digest: str
    answer: Answer


class KeyValueAnswers:
    """Answers by idempotency key. Whatever the cache does not say, or says unreadably, the store is asked."""

    def __init__(self, cache: KeyValue, ttl: timedelta, log: Logger) -> None:
        self._cache, self._ttl, self._log = cache, ttl, log

    async def find(self, scope: TenantScope, key: str, digest: str) -> Answer | None:
        """Give the answer to this very request, None if it is not here."""
        try:
            kept = await self._cache.get(scope, key)
            cached = _Cached.model_validate_json(kept) if kept else None
        except (RaaError, ValidationError) as problem:
            self._log.warning("answer_cache_skipped", tenant=scope.tenant, reason=str(problem))
            return None
        return cached.answer if cached and cached.digest == digest else None

    async def put(self, scope: TenantScope, key: str, digest: str, answer: Answer) -> None:
        """Keep an answer that the store holds."""
        try:
            await self._cache.put(scope, key, _Cached(digest=digest, answer=answer).model_dump_json().encode(),
                                  self._ttl)  # fmt: skip
        except RaaError as problem:
            self._log.warning("answer_cache_skipped", tenant=scope.tenant, reason=str(problem))
