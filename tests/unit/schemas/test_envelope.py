"""The envelope: what is encoded is decoded, in both modes, and every malformed record says what to change."""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_schemas.envelope import (
    MAX_BODY_BYTES,
    Envelope,
    Headers,
    InvalidEventError,
    Place,
    UnknownVersionError,
    decode,
)
from raa_schemas.ids import derived_event_id, derived_task_id, origin_key

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN = origin_key("", "task.created", 2, 41, NOON)
PLACE = Place("task.created", 1, ORIGIN, NOON)
GOAL = b'{"goal": "count the rows"}'
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=utf-8")]

# letters, marks, numbers, punctuation and symbols of any script: what `str.isprintable` takes, and the plain space
printable = st.characters(categories=["L", "M", "N", "P", "S"]) | st.just(" ")
names = st.text(printable, min_size=1, max_size=40)
task_ids = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
steps = st.from_regex(r"\Av[1-9][0-9]{0,2}/[A-Za-z][A-Za-z0-9_-]{0,20}\Z")
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=zones)  # noqa: DTZ001  # zones are given
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.text(), values, max_size=4)
envelopes = st.builds(
    Envelope,
    id=names,
    source=names,
    type=st.just(PLACE.event_type),
    time=instants,
    subject=task_ids,
    tenant=st.none() | names,
    dataschema=st.just("https://schemas.example/task.created.v1.json"),
    step=st.none() | steps,
    causation_id=st.none() | names,
    deadline=st.none() | instants,
    traceparent=st.none() | names,
)


@given(envelopes, bodies)
def test_an_envelope_in_binary_mode_comes_back_as_it_was_sent(envelope: Envelope, body: dict[str, Any]) -> None:
    sent = json.dumps(body).encode()
    assert decode(envelope.headers(), sent, PLACE) == (envelope, sent)


@given(envelopes, bodies)
def test_an_envelope_in_structured_mode_comes_back_as_it_was_sent(envelope: Envelope, body: dict[str, Any]) -> None:
    wrapper: dict[str, Any] = {name.removeprefix("ce_"): raw.decode() for name, raw in envelope.headers()}
    del wrapper["content-type"]
    decoded, inner = decode(STRUCTURED, json.dumps(wrapper | {"data": body}).encode(), PLACE)
    assert decoded == envelope
    assert json.loads(inner) == body


@given(envelopes)
def test_header_names_are_read_in_any_case(envelope: Envelope) -> None:
    shouted = [(name.upper(), raw) for name, raw in envelope.headers()]
    assert decode(shouted, GOAL, PLACE)[0] == envelope


@given(
    st.binary(max_size=200), st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=40)), max_size=4)
)
def test_bytes_of_any_kind_are_an_event_or_an_invalid_event(
    value: bytes, headers: list[tuple[str, bytes | None]]
) -> None:
    for added in ([], STRUCTURED, [("ce_id", b"1")]):
        with suppress(InvalidEventError):
            assert decode([*headers, *added], value, PLACE)[0].type == PLACE.event_type


@given(
    st.dictionaries(
        st.sampled_from(["id", "type", "time", "subject", "step", "deadline", "data", "specversion"]), values
    )
)
def test_a_structured_event_of_any_members_is_an_event_or_an_invalid_event(wrapper: dict[str, Any]) -> None:
    with suppress(InvalidEventError):
        assert decode(STRUCTURED, json.dumps(wrapper).encode(), PLACE)[0].id


def test_a_bare_record_takes_type_ids_and_time_from_where_it_lies() -> None:
    envelope, body = decode([], GOAL, PLACE)
    assert body == GOAL
    assert envelope == Envelope(
        id=derived_event_id(ORIGIN),
        source="bare",
        type="task.created",
        time=NOON,
        subject=derived_task_id(ORIGIN),
        tenant=None,
        dataschema="task.created.v1.json",
    )


def test_a_bare_record_read_twice_is_the_same_event() -> None:
    assert decode([], GOAL, PLACE) == decode([], GOAL, PLACE)


def test_bare_records_at_two_places_are_two_tasks() -> None:
    elsewhere = Place("task.created", 1, origin_key("", "task.created", 2, 42, NOON), NOON)
    first, second = decode([], GOAL, PLACE)[0], decode([], GOAL, elsewhere)[0]
    assert first.id != second.id
    assert first.subject != second.subject


@pytest.mark.parametrize("header", ["tenant", "ce_tenant"])
def test_a_bare_record_may_name_its_task_in_the_body_and_its_tenant_in_a_header(header: str) -> None:
    envelope, _ = decode([(header, b"acme")], b'{"goal": "x", "task_id": "t-1"}', PLACE)
    assert (envelope.subject, envelope.tenant) == ("t-1", "acme")


def test_an_event_that_names_only_its_id_takes_the_rest_from_its_topic() -> None:
    envelope, _ = decode([("ce_id", b"e1")], b'{"goal": "x", "task_id": "t-1"}', PLACE)
    assert (envelope.id, envelope.type, envelope.time, envelope.subject) == ("e1", "task.created", NOON, "t-1")


def test_times_are_compared_in_utc_whatever_their_offset() -> None:
    envelope, _ = decode([("ce_id", b"e1"), ("ce_time", b"2026-03-01T14:00:00+02:00")], GOAL, PLACE)
    assert envelope.time == NOON
    assert envelope.time.tzinfo is UTC


def test_absent_attributes_are_not_sent_as_empty_headers() -> None:
    envelope = Envelope("e1", "test", "task.created", NOON, "t-1", None, "task.created.v1.json")
    sent = dict(envelope.headers())
    assert not {"ce_tenant", "ce_step", "ce_deadline", "ce_causationid", "traceparent"} & sent.keys()


def _structured(**members: Any) -> bytes:
    return json.dumps({"id": "e1", "data": {"goal": "x"}} | members).encode()


MALFORMED: dict[str, tuple[Headers, bytes | None, str]] = {
    "no value": ([], None, "send one JSON object"),
    "too large": ([], b"{" + b" " * MAX_BODY_BYTES + b"}", "pass large values as blobs"),
    "not JSON": ([], b'{"goal": ', "not JSON: Expecting value at byte 9"),
    "not JSON behind an umlaut": ([], '{"goal": "ä", '.encode(), "double quotes at byte 15"),
    "text without an end": ([], b'{"goal": "a', "not JSON: Unterminated string starting at byte 9"),
    "a control character": ([], b'{"goal": "\x01"}', "not JSON: Invalid control character at byte 10"),
    "empty": ([], b"", "not JSON"),
    "a list": ([], b"[1]", "must be one JSON object"),
    "not UTF-8": ([], b'{"goal": "\xff"}', "not UTF-8 at byte 10"),
    "nested too deeply": ([], b"[" * 100_000, "nested too deeply"),
    "an integer without end": ([], b'{"goal": ' + b"1" * 5_000 + b"}", "send it as text"),
    "header not UTF-8": ([("user", b"\xff\xfe")], GOAL, "header 'user' is not UTF-8"),
    "another topic's type": ([("ce_id", b"1"), ("ce_type", b"task.done")], GOAL, "publish it to its own topic"),
    "no id": ([("ce_type", b"task.created")], GOAL, "has no id"),
    "an empty id": ([("ce_id", b"")], GOAL, "has no id"),
    "time without offset": ([("ce_id", b"1"), ("ce_time", b"2026-03-01T12:00:00")], GOAL, "has no offset"),
    "time that is none": ([("ce_id", b"1"), ("ce_time", b"noon")], GOAL, "ce_time is not an RFC 3339 time"),
    "time before the calendar": ([("ce_id", b"1"), ("ce_time", b"0001-01-01T00:00:00+10:00")], GOAL, "ce_time"),
    "deadline that is none": ([("ce_id", b"1"), ("ce_deadline", b"soon")], GOAL, "ce_deadline"),
    "subject with a slash": ([("ce_id", b"1"), ("ce_subject", b"a/b")], GOAL, "no task id; use up to 128"),
    "subject with a line break": ([("ce_id", b"1"), ("ce_subject", b"a\n")], GOAL, "no task id"),
    "task id with a slash": ([], b'{"goal": "x", "task_id": "../x"}', "no task id"),
    "step outside its task": ([("ce_id", b"1"), ("ce_step", b"v1/../../x")], GOAL, "v<plan version>/<step id>"),
    "structured without data": (STRUCTURED, b'{"id": "e1"}', "needs the member `data`"),
    "structured without id": (STRUCTURED, b'{"data": {"goal": "x"}}', "has no id"),
    "structured, not JSON": (STRUCTURED, b"hello", "not JSON"),
    "structured, data is text": (STRUCTURED, _structured(data="x"), "must be one JSON object"),
    "structured, id is an object": (STRUCTURED, _structured(id={}), "attribute 'id' is no text"),
    "structured, id is half a character": (STRUCTURED, b'{"id": "\\ud800", "data": {}}', "lone surrogate"),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "value", "advice"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_says_what_to_change(headers: Headers, value: bytes | None, advice: str) -> None:
    with pytest.raises(InvalidEventError, match=re.escape(advice)):
        decode(headers, value, PLACE)


@pytest.mark.parametrize("schema", [b"task.created.v2.json", b"https://schemas.example/task.created.v10.json", b"else"])
def test_another_major_version_is_told_apart_from_a_malformed_record(schema: bytes) -> None:
    with pytest.raises(UnknownVersionError, match="a new major version has its own topic"):
        decode([("ce_id", b"1"), ("ce_dataschema", schema)], GOAL, PLACE)


def test_an_older_cloudevents_version_is_refused() -> None:
    with pytest.raises(UnknownVersionError, match=r"send 1\.0"):
        decode([("ce_id", b"1"), ("ce_specversion", b"0.3")], GOAL, PLACE)
