"""The consumer policy without state: envelope, validation, lanes, bounded in-flight, pipelined sends, watermark.

What a stage that keeps nothing costs on our bus. A redelivered event is passed on again, under the same event id.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from benchmarks.own import HOPS, following
from raa_runtime.bus.port import Message, Record
from raa_runtime.consumer import Consumer
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.intake import Addressed, read_body
from raa_runtime.lanes import Lanes
from raa_runtime.platform import Platform
from raa_runtime.redrive import GroupIntake, Taken
from raa_runtime.settings import ServiceSettings
from raa_runtime.telemetry import Metrics
from raa_schemas.event import Event
from raa_schemas.ids import event_id, owned
from raa_schemas.tenants import IntakePolicy
from raa_schemas.topics import topic_of

POLICY: Final = IntakePolicy(allow_anonymous=True, tenants=frozenset())


class Stage:
    """One stage: it starts and drains like a service."""

    def __init__(
        self,
        number: int,
        settings: ServiceSettings,
        platform: Platform,
        *,
        passes_on: bool = True,
        group: str | None = None,
    ) -> None:
        self.handled = 0
        self.name, self._event = f"hop{number}", HOPS[number]
        self._platform, self._deployment, self._passes_on = platform, settings.deployment, passes_on
        self._log = platform.logger(self.name)
        self._lanes = Lanes(lambda lane, problem: self._log.error("failed", lane=lane, exc_info=problem))
        counted = Metrics().counter(f"raa_{self.name}_events_total", "events by outcome", ("topic", "outcome"))
        self._handled = counted.labels(self._event.event_type(), "handled")
        self._consumer = Consumer(
            platform.bus,
            owned(self._deployment, group or self.name),
            [owned(self._deployment, self._event.event_type())],
            GroupIntake(self._deployment, POLICY, self.name),
            self._lanes,
            lambda taken: taken.aggregate if isinstance(taken, Addressed) else self.name,
            self._handle,
            self._handle_all,
            self._poison,
            settings.max_in_flight,
            platform.clock,
            self._log,
        )

    async def start(self) -> None:
        """Join the group."""
        await self._consumer.start()
        self._running = asyncio.create_task(self._consumer.run())

    async def _handle(self, taken: Taken) -> None:
        """Handle what could not be passed on together with others."""
        if not all(await self._handle_all([taken])):
            raise DependencyUnavailable("the bus took no message; it is tried again")

    async def _handle_all(self, taken: Sequence[Taken]) -> list[bool]:
        """Pass on together what starts together, as the runtime does with events that keep state."""
        events = [(read, read_body(read)) for read in taken if isinstance(read, Addressed)]
        if len(events) < len(taken):
            raise TypeError("nobody redrives anything into a benchmark")
        self._handled.inc(len(events))
        self.handled += len(events)
        if not self._passes_on:
            return [True] * len(events)
        messages = [self._message(read, following(event.data, read.envelope.subject)) for read, event in events]
        return [problem is None for problem in await self._platform.bus.publish(messages)]

    def _message(self, read: Addressed, event: Event) -> Message:
        topic, kind = topic_of(type(event)), event.event_type()
        identity = event_id(self._deployment, self.name, read.aggregate, kind, 1)
        envelope = replace(
            read.envelope,
            id=identity,
            source=f"raa/{self.name}",
            type=kind,
            time=self._platform.clock.now(),
            tenant=read.tenant,
            dataschema=event.schema_name(),
            causation_id=read.envelope.id,
        )
        key = topic.aggregate_id(read.tenant, read.envelope.subject, None)
        return Message(owned(self._deployment, topic.name), key.encode(), event.to_json(), tuple(envelope.headers()))

    async def _poison(self, record: Record, problem: Exception, _: object) -> None:
        raise ValueError(f"offset {record.offset} of {record.topic}: {problem}")

    async def drain(self) -> None:
        """Finish what was taken, commit, leave."""
        self._consumer.stop_taking()
        await self._lanes.idle()
        await self._consumer.close()
        self._running.cancel()


def stages(settings: ServiceSettings, platform: Platform) -> list[Stage]:
    """Put the four stages together."""
    return [Stage(number, settings, platform) for number in range(len(HOPS))]
