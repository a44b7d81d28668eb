"""What the router needs of a model, whoever serves it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import SecretStr

from raa_runtime.errors import PermanentError


class ModelRefused(PermanentError):
    """The endpoint refuses this request for good: a wrong key, an unknown model, a malformed request."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is. `name` is ours, `model` its own; an empty `model` means the only one served there."""

    name: str
    model: str
    base_url: str | None = None
    api_key: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One call. `key` makes repeating it safe; `parameters` are OpenAI's, without model and response format."""

    messages: list[dict[str, Any]]
    key: str
    timeout_seconds: float
    parameters: dict[str, Any] = field(default_factory=dict)
    response_format: dict[str, Any] | None = None


class ModelClient(Protocol):
    """Speaks one protocol."""

    async def complete(self, endpoint: Endpoint, question: Question) -> dict[str, Any]:
        """Return the completion in the form of OpenAI, however odd its content.

        Raises:
            RateLimited, DependencyUnavailable, DeadlineExceeded: it may work later.
            ModelRefused: it will not.
        """
