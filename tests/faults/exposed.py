"""A deployment whose servers can be hurt: each may be killed, stopped or frozen, and lies behind a proxy that spoils.

exposed.bus.way.close()       nobody reaches the broker
exposed.store.freeze()        the store stands still, connections open
exposed.cache.server.kill()   as by a power cut; `on` starts it again on the data it had
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.backends.kafka import kafka
from tests.backends.mongo import mongo
from tests.backends.process import LOOPBACK, Server, answers, free_port, serve
from tests.backends.redis import redis
from tests.backends.toxiproxy import Proxy
from tests.e2e.house import get
from tests.faults.trial import HERE, Trial, separate

WHERE: Final = "kafka+mongo+redis, proxied"
MAX_IN_FLIGHT: Final = 20
MODEL_SECONDS: Final = 0.3
_READY: Final = 200


class Hurt:
    """One server on a port of its own, and the way to it."""

    def __init__(
        self, api: str, name: str, start: Callable[..., AbstractContextManager[Server]], folder: Path, *, named: bool
    ) -> None:
        self._start, self._folder, self._runs = start, folder, ExitStack()
        self._port = free_port()
        self.upstream = f"{LOOPBACK}:{self._port}"
        self.way = Proxy.between(api, f"{name}-{self._port}", self.upstream)
        # whoever tells clients where it is has to name the proxy
        self._options = {"advertised_port": self.way.port} if named else {}
        self.server = self.on()

    def on(self) -> Server:
        """Start it, on the data it had; returns when it answers."""
        self.server = self._runs.enter_context(self._start(self._folder, port=self._port, **self._options))
        return self.server

    def freeze(self) -> None:
        """Let it stand still: it takes connections and bytes, and answers nothing."""
        self.server.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.server.thaw()

    def close(self) -> None:
        """End it for good."""
        with contextlib.suppress(ProcessLookupError):
            self.thaw()
        self._runs.close()


@dataclass(frozen=True)
class Exposed:
    """The deployment, and its servers."""

    trial: Trial
    bus: Hurt
    store: Hurt
    cache: Hurt
    model: str

    def of_tenant(self, tenant: str) -> "Exposed":
        """Give it with the load and verdict of one tenant."""
        return replace(self, trial=self.trial.of_tenant(tenant))

    def pids(self) -> dict[str, int]:
        """Name the processes that run; one that ended is not there, one that was started again has another id."""
        running = self.trial.house.processes
        return {name: server.process.pid for name, server in running.items() if server.process.poll() is None}

    def unready(self) -> list[str]:
        """Name the processes that say they are not ready."""
        running = self.trial.house.processes
        with ThreadPoolExecutor(len(running)) as pool:
            told = pool.map(lambda server: get(f"{server.address}/readyz")[0], running.values())
        return [name for name, status in zip(running, told, strict=True) if status != _READY]

    def seconds_until_ready(self, most: float = 60) -> float:
        """Wait until all are ready; raises AssertionError that says who is not."""
        begun = time.monotonic()
        while left := self.unready():
            assert time.monotonic() - begun < most, f"not ready after {most:g} s: {left}\n{self.trial.house.logs()}"
            time.sleep(0.1)
        return time.monotonic() - begun


@contextlib.contextmanager
def exposed(folder: Path, api: str) -> Iterator[Exposed]:
    """Run each service in a process of its own (planner and executor twice) on servers of its own behind `api`."""
    with ExitStack() as stack:
        model = stack.enter_context(model_server(folder / "model", MODEL_SECONDS))
        servers = {
            name: Hurt(api, name, start, folder / name, named=name == "kafka")
            for name, start in (("kafka", kafka), ("mongo", mongo), ("redis", redis))
        }
        for server in servers.values():
            stack.callback(server.close)
        trial = stack.enter_context(
            separate(
                folder,
                deployment="exposed",
                kafka=servers["kafka"].way.address,
                mongo=f"mongodb://{servers['mongo'].way.address}",
                redis_url=f"redis://{servers['redis'].way.address}/0",
                instances={"planner": 2},
                max_in_flight=str(MAX_IN_FLIGHT),
            )
        )
        with_model(trial, model)
        trial.house.start()
        yield Exposed(trial, servers["kafka"], servers["mongo"], servers["redis"], model)


@contextlib.contextmanager
def model_server(folder: Path, seconds: float) -> Iterator[str]:
    """Run a model that answers after so many seconds; gives its address."""
    port = free_port()
    command = [sys.executable, str(HERE / "model_server.py"), str(port), str(seconds)]
    with serve(command, address=f"http://{LOOPBACK}:{port}", folder=folder, ready=lambda: answers(port)) as server:
        yield server.address


def with_model(trial: Trial, address: str) -> None:
    """Let every process of a house that is not started yet ask this model."""
    for name in list(trial.house._commands):
        command, environment = trial.house.command_of(name)
        environment |= {"OPENAI_BASE_URL": f"{address}/v1", "OPENAI_API_KEY": "none"}
        trial.house.define(name, command, environment)
