"""One service: its parts put together, started, kept alive, drained."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from raa_runtime.activities import Activities, Does
from raa_runtime.away import Away
from raa_runtime.backlog import Backlog
from raa_runtime.burial import Rejection
from raa_runtime.consumer import Consumer
from raa_runtime.dispatch import Dispatcher, On
from raa_runtime.durability import report
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.guard import outcome_of
from raa_runtime.http import HttpServer, Ping, listen
from raa_runtime.instance import instance_name
from raa_runtime.known import Cache
from raa_runtime.lanes import Lanes
from raa_runtime.liveness import Liveness
from raa_runtime.loops import Loops
from raa_runtime.ownership import Ownership
from raa_runtime.platform import Platform
from raa_runtime.redrive import GroupIntake
from raa_runtime.remembrance import Forget, Oblivion, refuse_contradictions
from raa_runtime.settings import ServiceSettings
from raa_runtime.state.aggregate import Aggregate, S
from raa_runtime.state.codec import Kind
from raa_runtime.state.reader import AggregateReader
from raa_runtime.telemetry import Metrics
from raa_runtime.timekeeping import Timekeeper
from raa_runtime.topics import topic_specs
from raa_runtime.unit import Completed, Unit
from raa_runtime.unit_of_work import Address, UnitOfWork
from raa_runtime.wakes import Poller, Timer, TimerHandler
from raa_runtime.watchdog import LOOK_SECONDS, Watchdog
from raa_runtime.watchers import Watchers
from raa_schemas.ids import owned
from raa_schemas.tenants import IntakePolicy
from raa_schemas.topics import redrive_topic, topic_of

if TYPE_CHECKING:
    from fastapi import APIRouter

CLOSE_SECONDS: Final = 10.0
INFO_LABELS: Final = ("service", "instance", "deployment")
MOST_WAKES_UNDER_WAY: Final = 2_000
T = TypeVar("T")
P = TypeVar("P")
Observer = Callable[[Kind[Any], Unit[Any]], None]
Step = Callable[[], Awaitable[None]]


class Service:
    """A service as `app.py` puts it together; run alone, or with the others in one process."""

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        platform: Platform,
        *,
        kinds: Sequence[Kind[Any]],
        on: Sequence[On[Any]] = (),
        does: Sequence[Does] = (),
        timers: Sequence[Timer] = (),
        api: "APIRouter | None" = None,
        pings: Mapping[str, Ping] | None = None,
        background: Sequence[Step] = (),
        before_ready: Sequence[Step] = (),
        rejections: Rejection | None = None,
        observers: Sequence[Observer] = (),
        metrics: Metrics | None = None,
        forget: Forget | None = None,
        remember_seconds: float | None = None,
    ) -> None:
        """Put it together; raises Misconfigured.

        `forget` deletes what belongs to an ended aggregate when that is forgotten itself, after `remember_seconds`
        (None: `RAA_TOMBSTONE_SECONDS`).
        """
        refuse_contradictions(settings)
        self._remember_seconds = remember_seconds or settings.tombstone_seconds
        self.name, self.settings, self.platform = name, settings, platform
        self.metrics = metrics or Metrics()
        self.log = platform.logger(name)
        self._kinds = {kind.name: kind for kind in kinds}
        self._background, self._before_ready = background, before_ready
        self._loops = Loops(name, self.log)
        self._phase = "starting"
        self._waiting_for = Away(self.log)
        self._serving = self._opened = False
        self._db = platform.open_store(name)
        self.instance = instance_name(settings.instance, settings.data)
        self._liveness = Liveness(self._db, platform.clock, f"{name}@{self.instance}", settings.lease_seconds)
        self._ownership = Ownership(self._db, self._kinds, self._liveness)
        self._time = Timekeeper(self._db, platform.clock)
        self._lanes = Lanes(self._lane_failed)
        self.stuck = asyncio.Event()
        self._watchers = Watchers()
        self._backlog = Backlog(name, lambda: self._consumer.marks, platform.clock)
        self._dispatcher = self._make_dispatcher(on, does, timers, rejections, observers)
        self._consumer = self._make_consumer(on)
        oblivion = Oblivion(self._db, platform.clock, self.log, forget)
        self._poller = Poller(self._db, platform.clock, kinds, self._partitions, self._dispatcher.wake, oblivion)
        own_pings: dict[str, Ping] = {"bus": platform.bus.ping, "store": self._check_store}
        self.http = HttpServer(
            name,
            listen(settings.http_host, settings.http_port) if settings.http_host else None,
            api,
            self.metrics,
            self._unready,
            own_pings | dict(pings or {}),
            self._closed,
            settings.http_max_connections,
        )

    def _make_dispatcher(
        self,
        on: Sequence[On[Any]],
        does: Sequence[Does],
        timers: Sequence[Timer],
        rejections: Rejection | None,
        observers: Sequence[Observer],
    ) -> Dispatcher:
        platform, settings = self.platform, self.settings
        self._activities = Activities(
            {do.name: do.run for do in does},
            platform.clock,
            self._liveness.check,
            self.log,
            self._deliver,
            self._ownership.owns,
        )
        work = UnitOfWork(
            self.name,
            settings.deployment,
            self._liveness.incarnation,
            self._db,
            platform.bus,
            platform.clock,
            self.log,
            self._activities.launch,
            self._activities.stop,
            (*observers, self._watchers.tell, self._backlog.observe),
            self._remember_seconds,
            turns=self._lanes,
            cache=Cache(settings.cache_bytes),
        )
        events = self.metrics.counter(f"raa_{self.name}_events_total", "events by outcome", ("topic", "outcome"))
        policy = IntakePolicy(settings.allow_anonymous, settings.tenants)
        by_kind: dict[str, dict[str, TimerHandler]] = {}
        for timer in timers:
            by_kind.setdefault(timer.kind.name, {})[timer.name] = timer.handler
        return Dispatcher(
            service=self.name,
            work=work,
            lanes=self._lanes,
            intake=GroupIntake(settings.deployment, policy, self.name),
            settings=settings,
            kinds=self._kinds,
            on={topic_of(item.event).name: item for item in on},
            completed={do.name: do.completed for do in does},
            timers=by_kind,
            dead=lambda: self._liveness.dead,
            lives=self._liveness.lives,
            rejections=rejections,
            count=lambda topic, outcome: events.labels(topic, outcome).inc(),
            settled=self._activities.settled,
        )

    def _deliver(self, kind: str, aggregate: Aggregate[Any], done: Completed) -> None:
        self._dispatcher.deliver(kind, aggregate, done)

    def _lane_failed(self, lane: str, problem: Exception) -> None:
        self.log.critical("lane_failed", lane=lane, exc_info=problem, note="it is tried again until it succeeds")

    def _make_consumer(self, on: Sequence[On[Any]]) -> Consumer:
        topics = self._topics(on)
        dispatcher = self._dispatcher
        return Consumer(
            self.platform.bus,
            owned(self.settings.deployment, self.name),
            topics,
            dispatcher.intake,
            self._lanes,
            dispatcher.lane_of,
            dispatcher.handle,
            dispatcher.handle_all,
            dispatcher.poison,
            self.settings.max_in_flight,
            self.platform.clock,
            self.log,
            dispatcher.work.late.apart,
        )

    def _topics(self, on: Sequence[On[Any]]) -> list[str]:
        names = [*(topic_of(item.event).name for item in on), redrive_topic(self.name)]
        return [owned(self.settings.deployment, name) for name in names]

    def _partitions(self) -> frozenset[int]:
        return self._consumer.partitions

    @property
    def url(self) -> str:
        """Give the base URL of its HTTP routes."""
        return self.http.url

    # life

    async def serve(self) -> None:
        """Answer HTTP: alive, and not ready yet."""
        if not self._serving:
            self._serving = True
            await self.http.start()

    async def start_patiently(self) -> None:
        """Start, however long bus or store are away; readiness names which. Raises Misconfigured."""

        async def attempt() -> None:
            await self._open_store()
            await self.platform.connect()
            await self.start()

        await self.serve()
        problem = await self._waiting_for.outlast(attempt)
        if isinstance(problem, Exception):
            raise problem

    async def start(self) -> None:
        """Serve, open the store, join the group; returns when it is running (ready may follow).

        Raises DependencyUnavailable when bus or store are away; it may then be called again.
        """
        await self.serve()
        await self._open_store()
        if self.settings.create_topics:
            await self.platform.bus.apply_topics(topic_specs(self.settings))
        await self._time.check()
        await self._consumer.start()
        self._loops.spawn("time", partial(self._time.keep, self._consumer.hold))
        self._loops.spawn("consumer", self._consumer.run)
        self._loops.spawn("watchdog", partial(self._watch, self._consumer))
        self._loops.spawn("wakes", self._keep_waking)
        for step in self._background:
            self._loops.spawn("background", step)
        self._gauges()
        self._loops.spawn("warm_up", self._warm_up)
        self._loops.spawn("durability", self._tell_durability)

    async def _tell_durability(self) -> None:
        topics = [spec.name for spec in topic_specs(self.settings)]
        await report(self.log, self.platform.bus, self._db, topics=topics)

    async def _open_store(self) -> None:
        """Open the store and keep the lease from then on, also while the bus is still away."""
        if self._opened:
            return
        await self._db.start([kind.spec for kind in self._kinds.values()])
        await self._liveness.beat()
        self._opened = True
        beat = self.settings.lease_seconds / 5
        self._loops.spawn("heartbeat", partial(self._ownership.keep, self._poller, self._activities, beat))

    def _closed(self) -> str | None:
        """Say why its own routes are not served yet."""
        return None if self._opened else f"{self.name} is starting: {self._waiting_for.reason or 'its store opens'}"

    def _gauges(self) -> None:
        running = self.metrics.gauge(f"raa_{self.name}_activities_running", "activities under way")
        running.set_function(lambda: len(self._activities))
        in_flight = self.metrics.gauge(f"raa_{self.name}_in_flight_records", "records taken and not settled")
        in_flight.set_function(lambda: self._consumer.in_flight)
        self.metrics.registry.register(self._backlog)
        info = self.metrics.gauge("raa_service_info", "1; which service and which process answers", INFO_LABELS)
        info.labels(self.name, self.instance, self.settings.deployment).set(1)

    async def _warm_up(self) -> None:
        for step in self._before_ready:
            await step()
        self._phase = "running"
        self.log.info("running", url=self.url)

    async def _keep_waking(self) -> None:
        while self._phase != "draining":
            if not self._time.wrong and len(self._dispatcher.waking) < MOST_WAKES_UNDER_WAY:
                await self._dispatcher.work.shrink()
                await self._poller.sweep(self._dispatcher.under_way())
            await self._poller.pause()

    async def _watch(self, consumer: Consumer) -> None:
        dog = Watchdog(lambda: consumer.settled, consumer.lag, self._answers, self.platform.clock.monotonic)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if await dog.is_stuck():
                break
        self.log.critical("stuck", note="the lag grows and nothing is settled, though bus and store answer")
        self.stuck.set()

    async def _answers(self) -> bool:
        return self._phase == "running" and not await self.http.missing()

    def _unready(self) -> dict[str, str]:
        missing = {} if self._phase == "running" else {"phase": self._phase}
        if self._liveness.namesake:
            missing["instance"] = f"{self._liveness.namesake} has this process's name; set RAA_INSTANCE apart"
        if self._phase == "running" and not self._consumer.belongs:
            missing["group"] = "the bus has not said yet which partitions are this process's"
        if self._waiting_for.reason:
            missing["start"] = self._waiting_for.reason
        if self._dispatcher.away.reason:
            missing["work"] = self._dispatcher.away.reason
        return missing

    async def _check_store(self) -> None:
        if not self._opened:
            raise DependencyUnavailable(self._waiting_for.reason or "it was not opened yet")
        await self._db.ping()
        await self._time.check()

    async def missing(self) -> dict[str, str]:
        """Name what is missing for readiness; empty when it is ready."""
        return await self.http.missing()

    async def caught_up(self) -> None:
        """Wait until everything that lay on its topics when this was called has been settled."""
        await self._consumer.caught_up()

    async def drain(self) -> None:
        """Stop in two phases: take nothing new; then finish what nobody may repeat, and hand over the rest.

        The first gives the partitions back at once, so that others go on with them. Takes `drain_seconds` and, with
        bus and store away, some ten seconds more; what was not finished by then is finished by whoever takes over.
        """
        if self._phase in {"draining", "stopped"}:
            return
        self._phase = "draining"
        end = self.platform.clock.monotonic() + self.settings.drain_seconds
        self._consumer.stop_taking()
        await self._idle_lanes(end)
        await self._close("consumer", self._consumer.close)
        while self._activities.unrepeatable() and (left := end - self.platform.clock.monotonic()) > 0:
            await self._activities.finish_unrepeatable(left)
            await self._idle_lanes(end)
        await self._activities.abandon()
        await self._close("http", self.http.stop)
        await self._idle_lanes(end)
        await self._lanes.cancel()
        await self._loops.stop(CLOSE_SECONDS)
        if self._opened:
            await self._close("lease", self._liveness.stop)
            await self._close("store", self._db.close)
        self._phase = "stopped"
        self.log.info("stopped")

    async def _idle_lanes(self, end: float) -> None:
        """Let the lanes run empty, until then; also past it they get a second for what is nearly done."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(1.0, end - self.platform.clock.monotonic())):
                await self._lanes.idle()

    async def _close(self, name: str, close: Step) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(CLOSE_SECONDS):
                await close()

        problem = await outcome_of(bounded)
        if isinstance(problem, Exception):
            self.log.warning("not_closed", part=name, reason=f"{type(problem).__name__}: {problem}")

    # what its own parts ask for

    def store(self, kind: Kind[Any]) -> AggregateReader:
        """Read its own aggregates of a kind."""
        return AggregateReader(self._db, kind)

    async def call(self, kind: Kind[S], aggregate: str, decide: Callable[[Unit[S], P], T], payload: P) -> T:
        """Run one unit of work for a caller who waits for its being stored and published."""
        at = Address(kind, aggregate, aggregate.split("/")[1])
        return await self._dispatcher.command(at, lambda unit: decide(unit, payload))

    async def call_and_wait(
        self,
        kind: Kind[S],
        aggregate: str,
        decide: Callable[[Unit[S], P], Any],
        payload: P,
        until: Callable[[S], T | None],
        timeout_seconds: float,
    ) -> T:
        """Run a unit, then wait until `until` of the aggregate's state gives something; raises TimeoutError."""
        with self._watchers.watching(kind.name, aggregate, until) as (look, done):

            def first(unit: Unit[S], given: P) -> None:
                decide(unit, given)
                look(unit.state)

            async with asyncio.timeout(timeout_seconds):
                await self.call(kind, aggregate, first, payload)
                return await done


__all__ = ["Does", "On", "Service", "Timer"]
