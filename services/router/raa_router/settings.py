"""Settings of the router, on top of those every service has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr

from raa_router.domain.catalogue import ModelSpec
from raa_runtime.settings import ServiceSettings

_WELL_KNOWN = {"OPENAI_BASE_URL": "openai_base_url", "OPENAI_API_KEY": "openai_api_key", "OPENAI_MODEL": "openai_model"}


class RouterSettings(ServiceSettings):
    """What the router needs to know. The variable of a field is `RAA_` and its name in capitals.

    The three variables that other OpenAI clients read are read too, where ours are not set.
    """

    models: list[ModelSpec] | Path = Field(default_factory=list, description="models as JSON, or a file listing them")
    default_model: str = Field("", description="model behind `default`; empty: the first configured, else offline")
    openai_base_url: str | None = Field(None, description="an OpenAI-compatible endpoint; also from OPENAI_BASE_URL")
    openai_api_key: SecretStr | None = Field(None, description="its key; also from OPENAI_API_KEY")
    openai_model: str = Field("", description="its model; empty: the first it lists; also from OPENAI_MODEL")
    unpriced: Literal["allow", "refuse"] = Field("allow", description="models without a price when a budget is set")
    request_seconds: float = Field(120, gt=0, description="longest request that names no deadline")
    retry_seconds: float = Field(180, ge=0, description="how long failing models are tried again, within the deadline")
    refused_seconds: float = Field(15, ge=0, description="the same where nobody listens at a model's address")
    answer_retention_seconds: float = Field(7 * 86_400, gt=0, description="how long answers are replayed by key")

    @classmethod
    def from_env(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """Read the settings; raises Misconfigured naming the variable and what it should be."""
        known = {field: environment[name] for name, field in _WELL_KNOWN.items() if environment.get(name)}
        unset = {field: value for field, value in known.items() if f"RAA_{field.upper()}" not in environment}
        return super().from_env(environment, **(unset | overrides))
