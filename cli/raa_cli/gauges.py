"""Reads the metrics of services, of as many instances as there are addresses; who cannot be asked is said."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from raa_cli.session import configured_url
from raa_cli.web import scrape
from raa_runtime.errors import RaaError
from raa_runtime.settings import ServiceSettings
from raa_schemas.topics import SERVICES

SECONDS: Final = 3.0
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Gauges:
    """What one instance said, or why it said nothing."""

    url: str
    service: str = ""
    instance: str = ""
    problem: str | None = None
    values: Mapping[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, name: str, labels: Mapping[str, str]) -> float | None:
        """Give one value; None if this instance does not have it."""
        return self.values.get((name, frozenset(labels.items())))


async def gauges_of(urls: Mapping[str, str], settings: ServiceSettings, at: Sequence[str]) -> list[Gauges]:
    """Ask the instances at these addresses; without any, those that are configured or run on the data folder."""
    known = (
        dict.fromkeys(at, "") if at else {url: service for service, url in {**_configured(settings), **urls}.items()}
    )
    return list(await asyncio.gather(*(_ask(url, service) for url, service in known.items())))


def _configured(settings: ServiceSettings) -> dict[str, str]:
    """Give the addresses by which services find each other, where they run apart."""
    if settings.bus != "kafka":
        return {}
    found: dict[str, str] = {}
    for service in SERVICES:
        try:
            found[service] = configured_url(service)
        except AttributeError:
            continue  # nobody asks it over HTTP, so no setting names it
    return found


async def _ask(url: str, service: str) -> Gauges:
    try:
        return _read(url, service, await scrape(url, SECONDS))
    except (RaaError, ValueError) as problem:
        return Gauges(url, service, problem=str(problem))


def _read(url: str, service: str, text: str) -> Gauges:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    said: Mapping[str, str] = next((sample.labels for sample in samples if sample.name == "raa_service_info"), {})
    return Gauges(url, said.get("service", service), said.get("instance", ""), values=values)


def reached(gauges: Sequence[Gauges]) -> str:
    """Say what to do about services that could not be asked."""
    if not gauges:
        return "no stack runs"
    return "name the addresses of all their instances with --at http://host:port"
