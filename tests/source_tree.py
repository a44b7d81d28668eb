"""Where the product's source is, for tests that read it."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVICES = ("executor", "memory", "planner", "reflector", "router", "safety")
PACKAGES = (
    ROOT / "schemas" / "raa_schemas",
    ROOT / "runtime" / "raa_runtime",
    ROOT / "client" / "raa_client",
    ROOT / "cli" / "raa_cli",
    *(ROOT / "services" / name / f"raa_{name}" for name in SERVICES),
)


def product_modules() -> list[Path]:
    """List every Python file of the ten distributions."""
    return sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    """Read one file as a syntax tree."""
    return ast.parse(path.read_text(), filename=str(path))


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the dotted names a file imports anywhere, lazily or not."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def committed_files() -> list[Path]:
    """List what git knows, committed or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def relative(path: Path) -> str:
    """Name a file as a reader of the repository would."""
    return path.relative_to(ROOT).as_posix()
