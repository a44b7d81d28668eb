"""Each distribution says what it needs, and the hash-pinned locks hold it."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.source_tree import PACKAGES, ROOT, SERVICES, imported_modules, relative

DISTRIBUTIONS = [package.parent for package in PACKAGES]
# A library's own other half: it documents importing both, and pins the second to the first.
HALVES = {"pydantic_core": "pydantic", "starlette": "fastapi"}
LOCKED = [ROOT / "services" / name for name in SERVICES] + [ROOT / "cli"]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(folder: Path, *, extras: bool = True) -> set[str]:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    optional = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
    lines = [*project["dependencies"], *(optional if extras else [])]
    return {_canonical(re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]) for line in lines}


def _locked(lock: Path) -> dict[str, str]:
    """Map each pinned name to the text of its entry."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text().split("\n", 2)[2])
    return {_canonical(entry.split("==")[0]): entry for entry in entries}


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=relative)
def test_a_distribution_declares_what_it_imports(folder: Path) -> None:
    owners = packages_distributions()
    (package,) = (path for path in PACKAGES if path.parent == folder)
    roots = {name.partition(".")[0] for path in package.rglob("*.py") for name in imported_modules(path)}
    foreign = roots - sys.stdlib_module_names - {package.name}
    declared = _declared(folder)
    undeclared = {
        root
        for root in foreign
        if not {_canonical(name) for name in [HALVES.get(root, root), *owners.get(root, [])]} & declared
    }
    assert undeclared == set()


@pytest.mark.parametrize("folder", LOCKED, ids=relative)
def test_a_lock_holds_all_that_its_distribution_declares(folder: Path) -> None:
    declared = {name for name in _declared(folder, extras=False) if not name.startswith("raa-")}
    assert declared | {"flit-core"} <= _locked(folder / "requirements.txt").keys()


@pytest.mark.parametrize("folder", LOCKED, ids=relative)
def test_every_pin_carries_a_hash_and_is_the_one_the_tests_ran_with(folder: Path) -> None:
    tested = _locked(ROOT / "requirements-dev.txt")
    for name, entry in _locked(folder / "requirements.txt").items():
        assert "--hash=sha256:" in entry, name
        assert tested[name] == entry, f"{name} differs from requirements-dev.txt; make lock"
