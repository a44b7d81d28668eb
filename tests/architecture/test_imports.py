"""What importing a part of the product really loads; import-linter reads the text, this runs it."""

import subprocess
import sys

import pytest

from tests.source_tree import PACKAGES, ROOT, SERVICES, imported_modules, product_modules, relative

CLIENT_LIBRARIES = {
    "aiohttp",
    "aiokafka",
    "duckdb",
    "fastapi",
    "faststream",
    "httpx",
    "litellm",
    "obstore",
    "prometheus_client",
    "pymongo",
    "redis",
    "sqlite3",
    "structlog",
    "uvicorn",
}
OFFLINE_MAY_IMPORT = {
    "__future__",
    "ast",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "decimal",
    "difflib",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "statistics",
    "string",
    "textwrap",
    "types",
    "typing",
    "unicodedata",
}
PURE_ROOMS = sorted(
    ".".join(path.relative_to(ROOT / "services" / name).with_suffix("").parts).removesuffix(".__init__")
    for name in SERVICES
    for room in ("domain", "ports")
    for path in (
        *(ROOT / "services" / name / f"raa_{name}").glob(f"{room}.py"),
        *(ROOT / "services" / name / f"raa_{name}" / room).rglob("*.py"),
    )
)


def _loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the top-level modules it has loaded at its end."""
    program = f"import sys, atexit\natexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.splitlines()}


@pytest.mark.parametrize("module", PURE_ROOMS)
def test_importing_a_domain_loads_no_client_library(module: str) -> None:
    assert not _loaded_by(f"import {module}") & CLIENT_LIBRARIES


def test_help_of_the_command_loads_neither_pydantic_nor_a_service() -> None:
    loaded = _loaded_by("sys.argv = ['raa', '--help']\nfrom raa_cli.__main__ import main\nmain()")
    assert not loaded & {"pydantic", "raa_runtime", *(f"raa_{name}" for name in SERVICES)}


def test_package_init_files_are_empty() -> None:
    full = [relative(path) for package in PACKAGES for path in package.rglob("__init__.py") if path.stat().st_size]
    assert full == []


def test_the_offline_model_imports_only_pure_parts_of_the_standard_library() -> None:
    foreign = {
        f"{relative(path)} imports {name}"
        for path in product_modules()
        if "raa_router/offline" in relative(path)
        for name in imported_modules(path)
        if name not in OFFLINE_MAY_IMPORT and not name.startswith("raa_router.offline")
    }
    assert foreign == set()
