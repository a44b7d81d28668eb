"""The shipped list prices, a dated file; a price counts only at the provider it was published for."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from raa_router.domain.catalogue import ModelSpec
from raa_router.domain.money import Price


class ProviderPrices(BaseModel):
    """The prices of one provider: reached at `host`, or through litellm as `provider/model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str = Field(description="litellm's prefix")
    host: str = Field(description="host of its own endpoint")
    models: Mapping[str, Price] = Field(description="by the model's name there")


class PriceList(BaseModel):
    """What models cost on a day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="the day the prices were noted")
    note: str = Field(description="how far to trust them")
    providers: Sequence[ProviderPrices] = Field(description="providers with published prices")


@cache
def shipped_prices() -> PriceList:
    """Read the list that comes with this release."""
    return PriceList.model_validate_json(files("raa_router").joinpath("prices.json").read_bytes())


def priced(spec: ModelSpec, prices: PriceList) -> ModelSpec:
    """Give a model its list price; its own price wins, and without either it stays unpriced."""
    if spec.price is not None:
        return spec
    model = spec.endpoint.model
    for known in prices.providers:
        if spec.protocol == "litellm":
            name = model.removeprefix(f"{known.provider}/") if model.startswith(f"{known.provider}/") else ""
        else:
            name = model if spec.base_url and urlsplit(spec.base_url).hostname == known.host else ""
        if name in known.models:
            return spec.model_copy(update={"price": known.models[name]})
    return spec
