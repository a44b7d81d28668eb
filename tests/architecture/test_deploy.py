"""What is deployed keeps its own rules: pinned images, no root, a volume each, known settings, checks that check.

`compose-spec.json` is the schema of the Compose Specification (Apache-2.0), as compose-go 2.16.2 carries it.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from docs import generate
from raa_schemas.settings import VARIABLES
from tests.backends.process import free_port
from tests.source_tree import ROOT, SERVICES

COMPOSE = ROOT / "docker-compose.yml"
STAND_INS = ROOT / "tests" / "backends" / "containers" / "compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
READY = ROOT / "deploy" / "ready.py"
SERVERS = ("kafka", "mongo", "redis")
DEFAULT = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")
DATA = "/var/lib/raa"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # as above
    """YAML with Compose's own tag for "instead of, not in addition to"."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def _composed(path: Path) -> Any:
    """Read a compose file as an empty environment makes it."""
    text = DEFAULT.sub(lambda match: match["default"], path.read_text())
    return yaml.load(text, Loader=_Loader)


FILE = _composed(COMPOSE)
ALL = FILE["services"]


def _instructions(path: Path = DOCKERFILE) -> list[tuple[str, str]]:
    """Read a Dockerfile as instructions and their arguments."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def _last_stage() -> list[tuple[str, str]]:
    instructions = _instructions()
    begin = max(place for place, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[begin:]


# --- docker-compose.yml ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [COMPOSE, STAND_INS], ids=lambda path: path.parent.name)
def test_a_compose_file_is_one_by_the_schema_of_compose(path: Path) -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    Draft202012Validator.check_schema(schema)
    problems = [f"{problem.json_path}: {problem.message}" for problem in
                Draft202012Validator(schema).iter_errors(_composed(path))]  # fmt: skip
    assert problems == []


def test_there_is_a_container_for_each_service_and_for_each_server_they_need() -> None:
    assert set(ALL) == {*SERVICES, *SERVERS}


@pytest.mark.parametrize("name", [*SERVICES, *SERVERS])
def test_a_container_is_bounded_watched_and_without_root(name: str) -> None:
    container = ALL[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", container["user"])
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["healthcheck"]["test"][0] == "CMD", "no shell in between, and a check there is"
    assert container["restart"] == "unless-stopped"
    assert container["mem_limit"]


@pytest.mark.parametrize("name", [*SERVICES, "mongo", "redis"])
def test_a_container_writes_nowhere_but_in_its_volumes_and_a_bounded_tmpfs(name: str) -> None:
    assert ALL[name]["read_only"] is True
    assert all("size=" in tmpfs for tmpfs in ALL[name]["tmpfs"])


@pytest.mark.parametrize("name", [*SERVICES, *SERVERS])
def test_an_image_is_pinned_by_tag(name: str) -> None:
    tag = ALL[name]["image"].rpartition(":")[2]
    assert re.match(r"\d+\.\d+", tag), f"{ALL[name]['image']} may be another one tomorrow"


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_image_is_the_one_that_make_images_builds(name: str) -> None:
    version = tomllib.loads((ROOT / "schemas" / "pyproject.toml").read_text())["project"]["version"]
    assert ALL[name]["image"] == f"localhost/raa-{name}:{version}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_data_folder_that_no_other_sees(name: str) -> None:
    own = [volume for volume in ALL[name]["volumes"] if volume.endswith(f":{DATA}")]
    # the image declares the folder as a volume: that is the own one of each executor, however many there are
    assert own == ([] if name == "executor" else [f"{name}-data:{DATA}"])
    assert ("VOLUME", f'["{DATA}"]') in _instructions()


def test_every_named_volume_is_declared_and_only_files_of_tasks_are_shared() -> None:
    users: dict[str, list[str]] = {}
    for name, container in ALL.items():
        for volume in container["volumes"]:
            users.setdefault(volume.partition(":")[0], []).append(name)
    assert users.keys() == FILE["volumes"].keys()
    assert [volume for volume, names in users.items() if len(names) > 1] == ["blobs"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_understands_every_variable_it_is_given(name: str) -> None:
    given = ALL[name]["environment"]
    assert given.keys() <= VARIABLES
    settings = generate.settings_classes()[name].from_env(given)
    assert (settings.bus, settings.store, settings.http_port) == ("kafka", "mongo", 8080)
    assert str(settings.data) == DATA


@pytest.mark.parametrize("name", SERVICES)
def test_replicas_have_names_of_their_own_whatever_the_env_file_says(name: str) -> None:
    assert ALL[name]["environment"]["RAA_INSTANCE"] == ""


@pytest.mark.parametrize("name", SERVICES)
def test_a_stop_leaves_time_for_the_drain(name: str) -> None:
    drain = generate.settings_classes()[name].model_fields["drain_seconds"].default
    assert int(ALL[name]["stop_grace_period"].removesuffix("s")) > drain


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_healthy_servers_and_for_no_service(name: str) -> None:
    assert ALL[name]["depends_on"] == {server: {"condition": "service_healthy"} for server in SERVERS}


def test_only_kafka_is_reachable_from_this_machine_and_from_no_other() -> None:
    ports = {name: container["ports"] for name, container in ALL.items() if "ports" in container}
    assert ports == {"kafka": ["127.0.0.1:9092:9092"]}


def test_variables_that_only_the_compose_file_reads_are_explained() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    read = {match["name"] for match in DEFAULT.finditer(COMPOSE.read_text())}
    assert {name for name in read if name.startswith("RAA_")} <= VARIABLES
    assert {name for name in read if not name.startswith("RAA_") and f"`{name}`" not in page} == set()


# --- deploy/Dockerfile -----------------------------------------------------------------------------------------------


def test_every_base_image_is_pinned_or_a_stage_of_the_same_file() -> None:
    stages: set[str] = {"scratch"}
    for name, rest in _instructions():
        if name == "FROM":
            image, _, stage = rest.partition(" AS ")
            assert image in stages or re.search(r":\d+\.\d+", image), image
            stages.add(stage)


def test_the_last_stage_runs_without_root_and_without_a_shell_in_between() -> None:
    stage = dict(_last_stage())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage["USER"])
    assert stage["CMD"].startswith('["/bin/sh", "-c", "exec python -m')


def test_nothing_is_installed_that_its_hash_does_not_name_nor_from_a_network_unless_asked() -> None:
    installs = [rest for name, rest in _instructions() if name == "RUN" and " install --quiet" in rest]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-index" in installs[1]
    assert ("ARG", "PIP_NO_INDEX=1") in _instructions()
    assert not [rest for name, rest in _instructions() if name == "ADD"]


def test_the_images_variables_are_known_and_its_check_is_the_one_that_compose_runs() -> None:
    stage = dict(_last_stage())
    assert set(re.findall(r"\b(RAA_\w+)=", stage["ENV"])) <= VARIABLES
    check = json.loads(stage["HEALTHCHECK"].partition(" CMD ")[2])
    assert ("COPY", f"deploy/ready.py {check[-1]}") in _last_stage()
    for name in SERVICES:
        assert ALL[name]["healthcheck"]["test"] == ["CMD", *check]


def test_what_is_copied_into_an_image_is_all_that_a_builder_gets_to_see() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    copied = {rest.split(" ")[0].partition("/${")[0] for name, rest in _instructions()
              if name == "COPY" and not rest.startswith("--from")}  # fmt: skip
    assert copied == {line[1:] for line in ignored if line.startswith("!")}


def test_hadolint_has_nothing_to_say() -> None:
    if (hadolint := shutil.which("hadolint")) is None:
        pytest.skip("no hadolint on the path; the tests above stand for it")
    done = subprocess.run([hadolint, str(DOCKERFILE)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


# --- deploy/ready.py -------------------------------------------------------------------------------------------------


@contextmanager
def _service(status: int) -> Iterator[int]:
    """Answer /readyz with a status; yields the port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b'{"missing": {"kafka": "away"}}')

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


def _check(port: int) -> tuple[int, str]:
    command = [sys.executable, "-IS", str(READY)]
    done = subprocess.run(command, check=False, env={"RAA_HTTP_PORT": str(port)}, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_a_container_is_healthy_when_its_service_is_ready_and_tells_what_is_missing(status: int, code: int) -> None:
    with _service(status) as port:
        assert _check(port) == (code, '{"missing": {"kafka": "away"}}')


def test_a_container_whose_service_does_not_answer_is_unhealthy() -> None:
    code, told = _check(free_port())
    assert code == 1
    assert told.startswith("ConnectionRefusedError")
