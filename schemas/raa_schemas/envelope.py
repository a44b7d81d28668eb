"""CloudEvents 1.0 over Kafka records: attributes in headers (binary mode) or around the body (structured mode)."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from raa_schemas.event import parse_instant
from raa_schemas.ids import derived_event_id, derived_task_id, is_step_path, is_task_id

MAX_BODY_BYTES = 1_048_576
STRUCTURED = "application/cloudevents+json"
Headers = Iterable[tuple[str, bytes | None]]


class InvalidEventError(ValueError):
    """The record is not an event this deployment can read."""


class UnknownVersionError(InvalidEventError):
    """The event has a major version this release does not know."""


class TenantMismatchError(InvalidEventError):
    """The record names another tenant than the topic it came on."""


@dataclass(slots=True)  # frozen would double what every record pays for it
class Envelope:
    """The attributes of one event; `subject` is the task id, `step` is `v<plan>/<step>`."""

    id: str
    source: str
    type: str
    time: datetime
    subject: str
    tenant: str | None
    dataschema: str
    step: str | None = None
    causation_id: str | None = None
    deadline: datetime | None = None
    traceparent: str | None = None

    def headers(self) -> list[tuple[str, bytes]]:
        """Encode as record headers in binary mode."""
        return [(name, value.encode()) for name, value in self.texts()]

    def texts(self) -> list[tuple[str, str]]:
        """Give the record headers of binary mode before their encoding."""
        values = {
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_source": self.source,
            "ce_type": self.type,
            "ce_time": self.time.isoformat(),
            "ce_subject": self.subject,
            "ce_tenant": self.tenant,
            "ce_step": self.step,
            "ce_dataschema": self.dataschema,
            "ce_causationid": self.causation_id,
            "ce_deadline": self.deadline.isoformat() if self.deadline else None,
            "traceparent": self.traceparent,
            "content-type": "application/json",
        }
        return [(name, value) for name, value in values.items() if value is not None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies, and what its topic says about records that name nothing themselves."""

    event_type: str
    major: int
    origin: str
    time: datetime


def decode(headers: Headers, value: bytes | None, place: Place) -> tuple[Envelope, bytes]:
    """Read a record as an envelope and a JSON body.

    A record without CloudEvents attributes takes its type from the topic and its ids from where it lies. Raises
    InvalidEventError with what the sender should change; UnknownVersionError for another major version.
    """
    if value is None:
        raise InvalidEventError("the record has no value; send one JSON object")
    if len(value) > MAX_BODY_BYTES:
        raise InvalidEventError(f"the body has {len(value)} bytes, more than 1 MB; pass large values as blobs")
    attributes = _text_headers(headers)
    if attributes.get("content-type", "").startswith(STRUCTURED):
        attributes, value = _unwrap(value)
    elif "ce_id" not in attributes and "ce_type" not in attributes:
        return _bare(attributes, value, place), value
    return _envelope(attributes, value, place), value


def _text_headers(headers: Headers) -> dict[str, str]:
    name = ""
    try:
        return {(name := key).lower(): raw.decode() if raw else "" for key, raw in headers}
    except UnicodeDecodeError:
        raise InvalidEventError(f"the header {name!r} is not UTF-8; send text headers only") from None


def _unwrap(value: bytes) -> tuple[dict[str, str], bytes]:
    wrapper = read_object(value)
    if "data" not in wrapper:
        raise InvalidEventError("a structured CloudEvent needs the member `data`")
    attributes = {
        f"ce_{name}": _text(name, item) for name, item in wrapper.items() if name != "data" and item is not None
    }
    if "ce_traceparent" in attributes:
        attributes["traceparent"] = attributes["ce_traceparent"]
    try:
        return attributes, json.dumps(wrapper["data"]).encode()
    except RecursionError:
        raise InvalidEventError("the body is nested too deeply") from None


def _text(name: str, item: Any) -> str:
    if not isinstance(item, (str, int)):
        raise InvalidEventError(f"the attribute {name!r} is no text; only `data` may hold objects and lists")
    text = str(item)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidEventError(f"the attribute {name!r} holds half a character (a lone surrogate)") from None
    return text


def read_object(value: bytes) -> dict[str, Any]:
    """Parse a body that must be a JSON object; raises InvalidEventError with the position of the mistake."""
    try:
        body = json.loads(value)
    except UnicodeDecodeError as problem:
        raise InvalidEventError(f"the body is not UTF-8 at byte {problem.start}") from None
    except json.JSONDecodeError as problem:
        at = len(problem.doc[: problem.pos].encode(errors="surrogatepass"))
        raise InvalidEventError(f"the body is not JSON: {problem.msg.removesuffix(' at')} at byte {at}") from None
    except RecursionError:
        raise InvalidEventError("the body is nested too deeply") from None
    except ValueError:  # what is left: an integer of more than 4,300 digits
        raise InvalidEventError("the body holds a number that is too long; send it as text") from None
    if not isinstance(body, dict):
        raise InvalidEventError("the body must be one JSON object")
    return body


def _bare(attributes: dict[str, str], value: bytes, place: Place) -> Envelope:
    return Envelope(
        id=derived_event_id(place.origin),
        source="bare",
        type=place.event_type,
        time=place.time,
        subject=_task_id(_named_or_derived(value, place)),
        tenant=attributes.get("ce_tenant") or attributes.get("tenant"),
        dataschema=f"{place.event_type}.v{place.major}.json",
        traceparent=attributes.get("traceparent"),
    )


def _named_or_derived(value: bytes, place: Place) -> str:
    named = read_object(value).get("task_id")
    return named if isinstance(named, str) else derived_task_id(place.origin)


def _envelope(attributes: dict[str, str], value: bytes, place: Place) -> Envelope:
    if not attributes.get("ce_id"):
        raise InvalidEventError("the event has no id; set `id` (ce_id), the same when it is sent again")
    if not attributes.get("ce_specversion", "1.0").startswith("1."):
        raise UnknownVersionError(f"CloudEvents {attributes['ce_specversion'][:20]!r} is not 1.0; send 1.0")
    event_type = attributes.get("ce_type", place.event_type)
    if event_type != place.event_type:
        raise InvalidEventError(
            f"type {event_type!r} on the topic of {place.event_type!r}; publish it to its own topic"
        )
    schema = attributes.get("ce_dataschema") or f"{event_type}.v{place.major}.json"
    if not schema.endswith(f"{event_type}.v{place.major}.json"):
        raise UnknownVersionError(
            f"{schema!r} is not {event_type}.v{place.major}.json; a new major version has its own topic"
        )
    return Envelope(
        id=attributes["ce_id"],
        source=attributes.get("ce_source", "unknown"),
        type=event_type,
        time=_instant(attributes, "ce_time") or place.time,
        subject=_task_id(attributes.get("ce_subject") or _named_or_derived(value, place)),
        tenant=attributes.get("ce_tenant"),
        dataschema=schema,
        step=_step(attributes),
        causation_id=attributes.get("ce_causationid"),
        deadline=_instant(attributes, "ce_deadline"),
        traceparent=attributes.get("traceparent"),
    )


def _instant(attributes: dict[str, str], name: str) -> datetime | None:
    try:
        return _utc(attributes[name]) if name in attributes else None
    except (ValueError, OverflowError) as problem:
        raise InvalidEventError(f"the attribute {name} is not an RFC 3339 time: {problem}") from None


def _utc(text: str) -> datetime:
    instant = parse_instant(text)
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def _step(attributes: dict[str, str]) -> str | None:
    step = attributes.get("ce_step")
    if step is not None and not is_step_path(step):
        raise InvalidEventError(f"ce_step {step[:80]!r} is no step; write v<plan version>/<step id>, as in v1/a")
    return step


def _task_id(text: str) -> str:
    if not is_task_id(text):
        raise InvalidEventError(f"{text[:140]!r} is no task id; use up to 128 letters, digits and ._:-")
    return text
