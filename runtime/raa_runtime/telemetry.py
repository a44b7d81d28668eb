"""Logs as JSON lines with task and tenant, and metrics on a registry per service."""

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120, 600)
Logger = structlog.typing.FilteringBoundLogger


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Write JSON lines to `stream` (standard error unless given) from this level on; foreign loggers only warnings."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.ERROR, stream=stream or sys.stderr, format="%(name)s %(levelname)s %(message)s")


def logger(service: str) -> Logger:
    """Give the logger of a service."""
    bound: Logger = structlog.get_logger().bind(service=service)
    return bound


class Metrics:
    """Counters, gauges and histograms of one service; asking twice for one name gives the same metric."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter; `name` ends in `_total`."""
        made = self._made.setdefault(name, Counter(name, text, labels, registry=None))
        return self._registered(name, made)  # type: ignore[return-value]

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Make a gauge."""
        made = self._made.setdefault(name, Gauge(name, text, labels, registry=None))
        return self._registered(name, made)  # type: ignore[return-value]

    def histogram(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        """Make a histogram of seconds."""
        made = self._made.setdefault(name, Histogram(name, text, labels, registry=None, buckets=SECONDS))
        return self._registered(name, made)  # type: ignore[return-value]

    def _registered(self, name: str, made: Counter | Gauge | Histogram) -> Counter | Gauge | Histogram:
        if made not in self.registry._collector_to_names:  # noqa: SLF001  # there is no public look-up
            self.registry.register(made)
        return made

    def exposition(self) -> bytes:
        """Render everything in the Prometheus text format."""
        return generate_latest(self.registry)
