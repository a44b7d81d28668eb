"""The official parser of AsyncAPI accepts docs/asyncapi.json, which describes every topic as it is declared."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from raa_schemas.topics import TOPICS
from tests.source_tree import ROOT

PARSER = "@asyncapi/parser@3.6.3"
DOCUMENT = ROOT / "docs" / "asyncapi.json"
CHECK = ROOT / "tests" / "integration" / "asyncapi_check.mjs"
ERROR, OUTDATED = "0", "asyncapi-latest-version"


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the parser and the script that calls it."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not there; the AsyncAPI document is only compared with its declarations")
    folder = tmp_path_factory.mktemp("asyncapi")
    shutil.copy(CHECK, folder)
    command = ["npm", "install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", PARSER]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=180)
    except (subprocess.SubprocessError, OSError) as problem:
        pytest.skip(f"npm cannot install {PARSER}, so the AsyncAPI document was not parsed: {problem}")
    return folder


def _parsed(parser: Path, document: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        ["node", CHECK.name, document], cwd=parser, check=False, capture_output=True, text=True, timeout=120
    )
    assert not done.stderr, done.stderr
    return done.returncode, [line for line in done.stdout.splitlines() if OUTDATED not in line]


def test_the_official_parser_accepts_the_document_without_a_word(parser: Path):
    assert _parsed(parser, DOCUMENT) == (0, [])


@pytest.mark.parametrize("broken", ["channel", "schema", "action"])
def test_the_parser_would_have_said_what_is_wrong(parser: Path, tmp_path: Path, broken: str):
    document = _document()
    operation = document["operations"]["receive.task.created"]
    if broken == "channel":
        operation["channel"]["$ref"] = "#/channels/task.forgotten"
    elif broken == "schema":
        document["components"]["schemas"]["TaskCreated"]["type"] = 7
    else:
        operation["action"] = "publish"
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(document))
    code, found = _parsed(parser, path)
    assert code == 1
    assert any(line.startswith(ERROR) for line in found)


def _document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return found


def test_every_topic_has_its_channel_and_whoever_writes_or_reads_it_its_operation():
    document = _document()
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == set(TOPICS)
    for name, topic in TOPICS.items():
        sent, received = f"send.{name}" in document["operations"], f"receive.{name}" in document["operations"]
        assert sent == any(writer != "client" for writer in topic.writers), name
        assert received == bool(topic.readers), name
        schema = document["components"]["messages"][name]["payload"]["$ref"].rpartition("/")[2]
        assert set(document["components"]["schemas"][schema]["properties"]) >= {"task_id", "labels"}


def test_its_schemas_say_the_same_as_the_json_schema_files():
    schemas = _document()["components"]["schemas"]
    for topic in TOPICS.values():
        alone = json.loads((ROOT / "schemas" / "json" / topic.event.schema_name()).read_text())
        assert schemas[topic.event.__name__]["properties"].keys() == alone["properties"].keys()
        assert schemas[topic.event.__name__].get("required", []) == alone.get("required", [])
