"""What a service holds of each partition, as metrics: records in flight, the oldest of them, deferred events.

Nothing is scanned for it. Deferred events are counted as their aggregates are stored: those of before the start are
counted when they are next tried, which is within a minute unless the far side asked for more.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raa_runtime.bus.port import TopicPartition
from raa_runtime.clock import Clock
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Unit
from raa_runtime.watermark import Watermark

LABELS: Final = ("topic", "partition")


class Backlog(Collector):
    """One consumer's backlog. `marks` gives the watermark of each partition it holds now."""

    def __init__(self, service: str, marks: Callable[[], Mapping[TopicPartition, Watermark]], clock: Clock) -> None:
        self._service, self._marks, self._clock = service, marks, clock
        self._deferred: dict[tuple[str, str], tuple[int | None, Counter[TopicPartition]]] = {}

    def observe(self, kind: Kind[Any], unit: Unit[Any]) -> None:
        """Follow which events of an aggregate wait in it."""
        if unit.aggregate.deferred:
            places = Counter(TopicPartition(event.topic, event.partition) for event in unit.aggregate.deferred)
            self._deferred[kind.name, unit.id] = (unit.aggregate.partition, places)
        elif self._deferred:
            self._deferred.pop((kind.name, unit.id), None)

    def deferred(self) -> Counter[TopicPartition]:
        """Count the deferred events of aggregates that are ours to wake, by where they came from."""
        held = {place.partition for place in self._marks()}
        found: Counter[TopicPartition] = Counter()
        for key, (partition, places) in list(self._deferred.items()):
            if partition is None or partition in held:
                found += places
            else:
                del self._deferred[key]  # whoever holds the partition now counts it
        return found

    def describe(self) -> list[Metric]:
        """Name nothing in advance, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give the metrics as they are now."""
        prefix, now = f"raa_{self._service}_partition", self._clock.now()
        in_flight = GaugeMetricFamily(f"{prefix}_in_flight_records", "records taken and not settled", labels=LABELS)
        oldest = GaugeMetricFamily(f"{prefix}_oldest_seconds", "age of the oldest of them, 0 if none", labels=LABELS)
        for place, mark in self._marks().items():
            labels = (place.topic, str(place.partition))
            in_flight.add_metric(labels, mark.in_flight)
            age = (now - mark.oldest).total_seconds() if mark.oldest else 0.0
            oldest.add_metric(labels, max(0.0, age))
        deferred = GaugeMetricFamily(f"{prefix}_deferred_records", "events that wait in their aggregate", labels=LABELS)
        for place, number in self.deferred().items():
            deferred.add_metric((place.topic, str(place.partition)), number)
        yield from (in_flight, oldest, deferred)
