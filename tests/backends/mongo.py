"""The MongoDB protocol by mongo-java-server with our own durable front, where no MongoDB can be installed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.backends.cache import HERE, fetch_jars, fill, filled, recipe_folder
from tests.backends.process import LOOPBACK, Server, answers, free_port, program, serve

_SOURCE = "MongoStandIn.java"


def _folder() -> Path:
    return recipe_folder("mongo", "mongo.pom.xml", _SOURCE)


def fill_mongo() -> Path:
    """Fetch the library and compile our front for it."""
    return fill(_folder(), _make)


@contextmanager
def mongo(folder: Path, *, port: int | None = None) -> Iterator[Server]:
    """Run the stand-in on the file `store.h2` in `folder`; the address is a connection URI."""
    java = program("java", "default-jre-headless")
    lib = filled(_folder())
    port = port or free_port()
    command = [java, "-Xmx2g", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-cp", f"{lib}/classes:{lib}/jars/*",
               "MongoStandIn", str(port), str(folder / "store.h2")]  # fmt: skip
    uri = f"mongodb://{LOOPBACK}:{port}"
    with serve(command, address=uri, folder=folder, ready=lambda: answers(port)) as server:
        yield server


def _make(folder: Path) -> None:
    compiler = program("javac", "default-jdk-headless")
    fetch_jars(HERE / "mongo.pom.xml", folder / "jars")
    command = [compiler, "-cp", f"{folder}/jars/*", "-d", str(folder / "classes"), str(HERE / _SOURCE)]
    subprocess.run(command, check=True)
