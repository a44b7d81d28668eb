"""Which models there are, and which of them a request may reach, in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from raa_router.domain.money import FREE, Price
from raa_router.ports import Endpoint

Tier = Literal["offline", "small", "medium", "large"]
Protocol = Literal["openai", "litellm", "offline"]
DEFAULT = "default"
OFFLINE = "offline"


class UnknownModelError(Exception):
    """No model of this name, tier or default is configured; the message names those that are."""


class ModelSpec(BaseModel):
    """A configured model. Its key is a secret: it is in no dump, log or error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200, description="how requests call it")
    protocol: Protocol = Field("openai", description="openai: any compatible endpoint; litellm: other providers")
    model: str | None = Field(None, description="its name at the endpoint; absent: the same; empty: the only one there")
    base_url: str | None = Field(None, description="for example http://127.0.0.1:8000/v1")
    api_key: SecretStr | None = Field(None, description="sent to the endpoint, nowhere else")
    tier: Tier = Field("medium", description="small, medium, large: what it may be chosen by")
    fallbacks: tuple[str, ...] = Field((), description="names to try in this order when it fails")
    price: Price | None = Field(None, description="overrides the shipped price list")
    max_output_tokens: int = Field(4_096, ge=1, le=1_000_000, description="tokens of one answer at most")
    timeout_seconds: float = Field(300, gt=0, description="longest single call; a cold start counts")

    @property
    def endpoint(self) -> Endpoint:
        """Give what an adapter needs to reach it."""
        return Endpoint(self.name, self.name if self.model is None else self.model, self.base_url, self.api_key)


OFFLINE_MODEL = ModelSpec(name=OFFLINE, protocol="offline", tier="offline", price=FREE)


@dataclass(frozen=True)
class Catalogue:
    """The configured models. `passthrough` is an endpoint that takes any model name we do not know."""

    models: Mapping[str, ModelSpec]
    default: str
    passthrough: ModelSpec | None = None

    def find(self, name: str) -> ModelSpec:
        """Return the model of this name; raises UnknownModelError."""
        if name in self.models:
            return self.models[name]
        if self.passthrough is not None:
            return self.passthrough.model_copy(update={"name": name, "model": name})
        raise UnknownModelError(f"there is no model {name!r}; configured are {', '.join(self.models)}")


def catalogue_of(specs: Sequence[ModelSpec], default: str = "", passthrough: ModelSpec | None = None) -> Catalogue:
    """Collect models by name, with the offline model among them; raises UnknownModelError for a name that is not there.

    The default is the named one, else the first configured, else the offline model.
    """
    models = {spec.name: spec for spec in [*specs, OFFLINE_MODEL]}
    catalogue = Catalogue(models, default or next(iter(models)), passthrough)
    catalogue.find(catalogue.default)
    for spec in specs:
        for name in spec.fallbacks:
            catalogue.find(name)
    return catalogue


def choose_model(catalogue: Catalogue, asked: str) -> list[ModelSpec]:
    """Return the models to try, in order: the one asked for by name, tier or default, then its fallbacks.

    Raises:
        UnknownModelError: nothing of that name is configured.
    """
    if asked in get_args(Tier) and asked not in catalogue.models:
        first = [spec for spec in catalogue.models.values() if spec.tier == asked]
        if not first:
            raise UnknownModelError(f"no model of the tier {asked} is configured; add one with `raa model add`")
    else:
        first = [catalogue.find(catalogue.default if asked == DEFAULT else asked)]
    return list({spec.name: spec for one in first for spec in _with_fallbacks(catalogue, one)}.values())


def _with_fallbacks(catalogue: Catalogue, spec: ModelSpec) -> list[ModelSpec]:
    return [spec, *(catalogue.find(name) for name in spec.fallbacks)]
