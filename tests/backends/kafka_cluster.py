"""Three KRaft brokers with replication 3 and `min.insync.replicas=2`, any of which may be killed and started again."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.backends.cache import filled
from tests.backends.kafka import CLUSTER, JVM, recipe, recorded_classes
from tests.backends.process import LOOPBACK, Server, answers, free_port, launch, program, wait_for

BROKERS = 3
_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.num.partitions=4
offsets.topic.replication.factor=3
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# a dead broker is noticed, and a new leader there, within seconds
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
"""


class KafkaCluster:
    """The brokers of one cluster by number, from 0; `bootstrap` names all of them."""

    def __init__(self, folder: Path) -> None:
        self._lib = filled(recipe())
        self._folders = [folder / f"broker-{number}" for number in range(BROKERS)]
        self._ports = [free_port() for _ in self._folders]
        self._controllers = [free_port() for _ in self._folders]
        self.bootstrap = ",".join(f"{LOOPBACK}:{port}" for port in self._ports)
        self.brokers: list[Server] = []

    def start(self) -> None:
        """Format the folders and start all brokers."""
        for number in range(BROKERS):
            self._format(number)
        self.brokers = [self._launch(number) for number in range(BROKERS)]
        for number in range(BROKERS):
            self._wait(number)

    def restart(self, number: int) -> None:
        """Start a broker again that was killed or stopped."""
        self.brokers[number] = self._launch(number)
        self._wait(number)

    def stop(self) -> None:
        """Kill them all: their data is disposable, and asked one after another the last one would hang."""
        for broker in self.brokers:
            broker.kill()

    def _wait(self, number: int) -> None:
        wait_for(partial(answers, self._ports[number]), self.brokers[number])

    def _format(self, number: int) -> None:
        folder = self._folders[number]
        folder.mkdir(parents=True)
        voters = ",".join(f"{node + 1}@{LOOPBACK}:{port}" for node, port in enumerate(self._controllers))
        settings = folder / "server.properties"
        settings.write_text(
            _PROPERTIES.format(
                node=number + 1,
                voters=voters,
                host=LOOPBACK,
                port=self._ports[number],
                controller_port=self._controllers[number],
                data=folder / "data",
            )
        )
        subprocess.run(
            [*self._java(), "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(settings)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"JAVA_TOOL_OPTIONS": ""},
        )

    def _launch(self, number: int) -> Server:
        folder = self._folders[number]
        command = [*self._java(), "kafka.Kafka", str(folder / "server.properties")]
        return launch(command, address=f"{LOOPBACK}:{self._ports[number]}", folder=folder)

    def _java(self) -> list[str]:
        return ["java", *JVM, *recorded_classes(self._lib), "-cp", f"{self._lib}/jars/*"]


@contextmanager
def kafka_cluster(folder: Path) -> Iterator[KafkaCluster]:
    """Run three brokers while the block runs."""
    program("java", "default-jre-headless")
    cluster = KafkaCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
