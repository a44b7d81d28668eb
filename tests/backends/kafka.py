"""Apache Kafka as one real KRaft broker, with timings that let tests see rebalances and restarts in seconds."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.backends.cache import HERE, fetch_jars, fill, filled, recipe_folder
from tests.backends.process import LOOPBACK, Server, answers, free_port, program, serve

JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xlog:cds=off",
       "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dlog4j2.statusLoggerLevel=OFF")  # fmt: skip
CLUSTER = "cmFhLXRlc3RzLWNsdXN0ZQ"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{advertised_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# a new group starts at once, and a broker that was killed is back in 3 s instead of 11
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
"""


def recipe() -> Path:
    """Name the folder that holds the broker's jars."""
    return recipe_folder("kafka", "kafka.pom.xml")


def fill_kafka() -> Path:
    """Fetch the broker, format one data folder to copy from, and record its classes, which halves every later start."""
    program("java", "default-jre-headless")
    folder = fill(recipe(), _make)
    if not (folder / "classes.jsa").exists():
        with TemporaryDirectory(prefix="raa-kafka-") as scratch:
            aside = folder / "classes.jsa.new"
            with _broker(folder, Path(scratch), f"-XX:ArchiveClassesAtExit={aside}"):
                pass
        aside.replace(folder / "classes.jsa")
    return folder


def recorded_classes(lib: Path) -> list[str]:
    """Give the option that loads the recorded classes, if there are any."""
    archive = lib / "classes.jsa"
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []


@contextmanager
def kafka(folder: Path, *, port: int | None = None, advertised_port: int | None = None) -> Iterator[Server]:
    """Run a broker on `folder`; a folder that a broker used before keeps its topics, so this also restarts one.

    `advertised_port` is where clients are sent after their first call, for a fault proxy in between.
    """
    program("java", "default-jre-headless")
    lib = filled(recipe())
    with _broker(lib, folder, *recorded_classes(lib), port=port, advertised_port=advertised_port) as server:
        yield server


@contextmanager
def _broker(
    lib: Path, folder: Path, *jvm: str, port: int | None = None, advertised_port: int | None = None
) -> Iterator[Server]:
    port = port or free_port()
    data = folder / "data"
    if not data.exists():
        shutil.copytree(lib / "formatted", data)
    settings = _write_properties(folder, data, port, advertised_port or port)
    command = ["java", *JVM, *jvm, "-cp", f"{lib}/jars/*", "kafka.Kafka", str(settings)]
    with serve(command, address=f"{LOOPBACK}:{port}", folder=folder, ready=lambda: answers(port)) as server:
        yield server


def _make(folder: Path) -> None:
    fetch_jars(HERE / "kafka.pom.xml", folder / "jars")
    settings = _write_properties(folder, folder / "formatted", free_port(), 0)
    tool = ["java", *JVM, "-cp", f"{folder}/jars/*", "kafka.tools.StorageTool"]
    subprocess.run([*tool, "format", "-t", CLUSTER, "-c", str(settings)], check=True, stdout=subprocess.DEVNULL)


def _write_properties(folder: Path, data: Path, port: int, advertised_port: int) -> Path:
    path = folder / "server.properties"
    text = _PROPERTIES.format(
        host=LOOPBACK, port=port, advertised_port=advertised_port or port, controller_port=free_port(), data=data
    )
    path.write_text(text)
    return path
