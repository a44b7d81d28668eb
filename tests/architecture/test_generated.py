"""What is generated equals its declarations, and everything about an event derives from one name."""

import ast
import json
import re
from pathlib import Path

import pytest

from docs import generate
from raa_schemas.event import Event
from raa_schemas.settings import VARIABLES
from raa_schemas.topics import SERVICES, TOPICS
from tests.source_tree import ROOT, parsed, product_modules

DOCUMENTS = generate.documents()
EVENTS = [topic.event for topic in TOPICS.values()]


@pytest.mark.parametrize("path", sorted(DOCUMENTS), ids=str)
def test_generating_again_changes_nothing(path: Path) -> None:
    written = ROOT / path
    assert written.exists(), f"{path} is missing; run `make docs` and commit what it writes"
    assert written.read_text() == DOCUMENTS[path], f"{path} is out of date; run `make docs` and commit what it writes"


def test_no_schema_file_is_left_over_from_an_event_that_is_gone() -> None:
    assert generate.left_over(ROOT, DOCUMENTS) == []


def test_a_schema_file_of_no_event_is_found_as_left_over(tmp_path: Path) -> None:
    folder = tmp_path / "schemas" / "json"
    folder.mkdir(parents=True)
    (folder / "task.created.v1.json").touch()
    (folder / "task.forgotten.v1.json").touch()
    assert generate.left_over(tmp_path, DOCUMENTS) == [folder / "task.forgotten.v1.json"]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_type_topic_module_and_schema_file_of_an_event_derive_from_its_name(event: type[Event]) -> None:
    words = re.findall("[A-Z][a-z]+", event.__name__)
    assert "".join(words) == event.__name__
    name = ".".join(words).lower()
    assert event.event_type() == name
    assert name in TOPICS
    assert event.__module__ == f"raa_schemas.{words[0].lower()}"
    assert (ROOT / "schemas" / "json" / f"{name}.v{event.major}.json").exists()


def test_every_event_that_is_declared_has_a_topic() -> None:
    # classes whose name does not end in a past participle are shared parts of events
    declared = {event for event in _descendants(Event) if event.__module__.startswith("raa_schemas.")}
    assert {event.__name__ for event in declared - set(EVENTS)} == {"StepEvent"}


def _descendants(event: type[Event]) -> set[type[Event]]:
    children = event.__subclasses__()
    return set(children).union(*(_descendants(child) for child in children))


def test_only_services_and_the_client_write_and_only_services_read() -> None:
    for topic in TOPICS.values():
        assert set(topic.writers) <= {*SERVICES, "client"}, topic.name
        assert set(topic.readers) <= set(SERVICES), topic.name
        assert topic.writers, topic.name


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_the_topics_that_declare_it_as_reader(service: str) -> None:
    root = parsed(ROOT / "services" / service / f"raa_{service}" / "app.py")
    handled = {
        ast.unparse(call.args[0])
        for call in ast.walk(root)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "On"
    }
    assert handled == {topic.event.__name__ for topic in TOPICS.values() if service in topic.readers}


def test_what_a_client_writes_is_kept_longer_than_events_may_create_aggregates() -> None:
    horizon = 7 * 86_400
    for topic in TOPICS.values():
        if "client" in topic.writers and topic.name != "cancel.requested":
            assert topic.retention.total_seconds() > horizon, topic.name


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_every_field_of_an_event_says_what_it_means(event: type[Event]) -> None:
    schema = json.loads(DOCUMENTS[Path("schemas/json") / event.schema_name()])
    for owner in (schema, *schema.get("$defs", {}).values()):
        for name, field in owner.get("properties", {}).items():
            assert field.get("description"), f"{owner.get('title', event.__name__)}.{name} has no description"


def test_every_setting_says_what_it_means() -> None:
    for service, settings in generate.settings_classes().items():
        for name, field in settings.model_fields.items():
            assert field.description, f"{service}: {name} has no description"


def test_every_variable_named_anywhere_in_the_product_exists() -> None:
    named = {
        match[0]
        for path in product_modules()
        for match in re.finditer(r"\bRAA_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
        if not match[0].startswith("RAA_TEST")
    }
    assert named <= VARIABLES
