"""What must not stand in the source: the demo's data, broad catches, addresses and paths of one machine."""

import ast
import csv
import re
from pathlib import Path

import pytest

from tests.source_tree import ROOT, committed_files, parsed, product_modules, relative

DEMO_DATA = ROOT / "examples" / "data"
# Figures the demo must compute: whoever writes one into the product has scripted it.
DEMO_VALUES = re.compile(
    r"(?<![\w.])(-200(,0)?(?![\w.])|-?34\.2075|2\.1527|10\.0831|1\.8657|10\.4230?|10\.5143|3\.0294|113\.0913|58\.1489)"
)
# Words of the data that are also words of everybody.
COMMON_WORDS = {"date", "quality", "density", "weather", "wind"}
# Written in parts, so that this file does not name what it forbids.
REGISTRY_HOSTS = re.compile(
    r"py" r"pi\.(org|python)|python" r"hosted\.|maven\." r"(org|apache|google)|npm" r"js\.|proxy\.go" r"lang\."
    r"|deb\.deb" r"ian\.org|security\.deb" r"ian\.org|(index[-_]url|find[-_]links)[ =]+\S*(:/|/opt)"
)  # fmt: skip
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:ro" r"ot/|wo" r"rk/(?:main|shared)|opt/wh" r"eels|Us" r"ers/\w)")


def _demo_names() -> set[str]:
    """File names and column names of the demo's data, as far as they can only mean that data."""
    names: set[str] = set()
    for path in DEMO_DATA.glob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
        columns = next(csv.reader([head], delimiter=csv.Sniffer().sniff(head, delimiters=",;\t|").delimiter))
        names |= {path.name, path.stem, *(column.strip() for column in columns)}
    return {name for name in names if len(name) > 4 and name.lower() not in COMMON_WORDS}


def test_no_name_or_figure_of_the_demo_stands_in_the_product() -> None:
    names = _demo_names()
    assert len(names) > 20, f"{DEMO_DATA} should hold the demo's tables"
    named = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(names)))
    found = [
        f"{relative(path)}:{number}: {match[0]}"
        for path in product_modules()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in [named.search(line) or DEMO_VALUES.search(line)]
        if match
    ]
    assert found == []


def _catches_everything(node: ast.AST) -> bool:
    """Tell whether a node swallows whatever happens; cleaning up and raising again does not."""
    if isinstance(node, ast.ExceptHandler):
        if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
            return False
        kinds = [node.type] if node.type else []
        broad = node.type is None
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        kinds, broad = list(node.args), False
    else:
        return False
    named = {name.id for kind in kinds for name in ast.walk(kind) if isinstance(name, ast.Name)}
    return broad or bool(named & {"Exception", "BaseException"})


def test_at_most_one_file_catches_everything() -> None:
    broad = [relative(path) for path in product_modules() if any(map(_catches_everything, ast.walk(parsed(path))))]
    assert len(broad) <= 1, broad


@pytest.mark.parametrize(
    ("source", "broad"),
    [
        ("try: f()\nexcept Exception: pass", True),
        ("try: f()\nexcept (ValueError, Exception): pass", True),
        ("try: f()\nexcept: pass", True),
        ("with contextlib.suppress(Exception): f()", True),
        ("try: f()\nexcept ValueError: pass", False),
        ("try: f()\nexcept BaseException:\n  close()\n  raise", False),
    ],
)
def test_a_broad_catch_is_recognised(source: str, broad: bool) -> None:
    assert any(map(_catches_everything, ast.walk(ast.parse(source)))) is broad


def _text(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content[:8192] else content.decode(errors="replace")


def test_no_committed_text_names_a_registry_or_a_path_of_one_machine() -> None:
    found = [
        f"{relative(path)}:{number}: {match[0]}"
        for path in committed_files()
        if path.suffix not in {".csv", ".gz"}
        for number, line in enumerate(_text(path).splitlines(), 1)
        for match in [REGISTRY_HOSTS.search(line) or MACHINE_PATHS.search(line)]
        if match
    ]
    assert found == []
