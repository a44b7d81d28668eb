"""Keep the Java backends in a folder per user, filled through Maven once and used by every clone after that."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from tests.backends.process import BackendMissing, program

HERE = Path(__file__).parent
_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


def cache_folder() -> Path:
    """Name the folder: RAA_BACKENDS, or one below the user's cache."""
    named = os.environ.get("RAA_BACKENDS")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raa" / "backends"


def recipe_folder(name: str, *recipe: str) -> Path:
    """Name the folder of one backend, which changes with the files it is made from."""
    content = b"".join((HERE / file).read_bytes() for file in recipe)
    return cache_folder() / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"


def filled(folder: Path) -> Path:
    """Return a folder that was filled before.

    Raises:
        BackendMissing: it was not.
    """
    if folder.is_dir():
        return folder
    message = f"{folder} is not filled; python -m tests.backends fill"
    raise BackendMissing(message)


def fill(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make a folder aside and move it into place whole, so that an interrupted download leaves nothing half."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        make(aside)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def fetch_jars(pom: Path, into: Path) -> None:
    """Copy every jar that a pom names, and what those need, into one folder."""
    maven = program("mvn", "maven")
    subprocess.run(
        [maven, "-q", "-B", "-ntp", "-f", str(pom), _COPY_DEPENDENCIES,
         "-DincludeScope=runtime", f"-DoutputDirectory={into}"],
        check=True,
    )  # fmt: skip
