"""Describes the whole bus as one AsyncAPI 3.0 document: every topic, its event and headers, who writes and reads it."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from raa_schemas.event import Event
from raa_schemas.ids import TASK_ID_PATTERN
from raa_schemas.topics import LAPTOP_PARTITIONS, TOPICS, Topic

REF: Final = "#/components/schemas/{model}"
DESCRIPTION: Final = """\
The events of the Reflective Adaptive Agent, as they lie on Kafka. The channels are those of the main deployment; those
of the deployment `blue` begin with `blue.`. Channels with the tag `public` change compatibly, those with `internal` may
change between minor versions. Operations are told from the agent's side: a client sends what the agent receives.
Delivery is at least once: the same event may come again, with the same `ce_id`. Records are CloudEvents 1.0 in binary
mode; structured mode and, on task.created, a bare JSON value without headers are read, too. Readers ignore fields they
do not know. Each service also has a topic `<service>.dlq` for its dead letters."""
HEADERS: Final[dict[str, dict[str, Any]]] = {
    "ce_specversion": {"type": "string", "const": "1.0"},
    "ce_id": {"type": "string", "description": "event id; the same id is the same event"},
    "ce_source": {"type": "string", "description": "who published it"},
    "ce_type": {"type": "string", "description": "the topic, without a deployment's prefix"},
    "ce_time": {"type": "string", "format": "date-time", "description": "when it happened"},
    "ce_subject": {"type": "string", "pattern": TASK_ID_PATTERN, "description": "task id"},
    "ce_tenant": {"type": "string", "description": "whose task; without it the tenant is `default`"},
    "ce_step": {"type": "string", "description": "`v<plan version>/<step>`, on events about a step"},
    "ce_dataschema": {"type": "string", "description": "ends in `<event>.v<major>.json`"},
    "ce_causationid": {"type": "string", "description": "the event that caused this one"},
    "ce_deadline": {"type": "string", "format": "date-time", "description": "until when it is worth doing"},
    "traceparent": {"type": "string", "description": "W3C trace context"},
    "content-type": {"type": "string", "description": "application/json, or application/cloudevents+json"},
}
REQUIRED_HEADERS: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type")


class _PlainSchema(GenerateJsonSchema):
    """JSON Schema without a title per field: the name says it already."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def asyncapi(version: str) -> dict[str, Any]:
    """Build the document; `version` is the release it describes."""
    names, schemas = _schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Reflective Adaptive Agent",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "RAA_KAFKA_BOOTSTRAP"}},
        "channels": {name: _channel(topic) for name, topic in TOPICS.items()},
        "operations": dict(_operations()),
        "components": {
            "messages": {name: _message(topic, names[topic.event]) for name, topic in TOPICS.items()},
            "messageTraits": {"cloudEvent": {"headers": _headers()}},
            "schemas": schemas,
        },
    }


def _schemas() -> tuple[dict[type[Event], str], dict[str, Any]]:
    """Give each event's name among the schemas, and all schemas with their parts shared."""
    events = [topic.event for topic in TOPICS.values()]
    by_model, root = models_json_schema(
        [(event, "validation") for event in events], ref_template=REF, schema_generator=_PlainSchema
    )
    names = {event: str(by_model[event, "validation"]["$ref"]).rpartition("/")[2] for event in events}
    return names, dict(root["$defs"])


def _channel(topic: Topic) -> dict[str, Any]:
    policy = ["compact"] if topic.compacted else ["delete"]
    kept = {} if topic.compacted else {"retention.ms": int(topic.retention.total_seconds() * 1000)}
    return {
        "address": topic.name,
        "summary": _sentence(topic.event),
        "messages": {topic.event.__name__: {"$ref": f"#/components/messages/{topic.name}"}},
        "tags": [{"name": "public" if topic.public else "internal"}],
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": LAPTOP_PARTITIONS,
                "topicConfiguration": {"cleanup.policy": policy} | kept,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message(topic: Topic, schema: str) -> dict[str, Any]:
    key = "tenant/task/v<plan version>/step" if topic.aggregate == "step" else "tenant/task"
    return {
        "name": topic.event.__name__,
        "title": topic.name,
        "summary": _sentence(topic.event),
        "contentType": "application/json",
        "payload": {"$ref": REF.format(model=schema)},
        "correlationId": {
            "description": "the client's own id, on all public events of its task",
            "location": "$message.payload#/correlation_id",
        },
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }


def _headers() -> dict[str, Any]:
    return {"type": "object", "required": list(REQUIRED_HEADERS), "properties": HEADERS}


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name what the agent sends, and what it receives from clients; its services among themselves do both."""
    for name, topic in TOPICS.items():
        services = [writer for writer in topic.writers if writer != "client"]
        if services:
            yield f"send.{name}", _operation("send", topic, f"written by {', '.join(services)}")
        if topic.readers:
            asked = "a client, " if "client" in topic.writers else ""
            by = f"{asked}{', '.join(services)}".rstrip(", ")
            yield (
                f"receive.{name}",
                _operation("receive", topic, f"read by {', '.join(topic.readers)}; written by {by}"),
            )


def _operation(action: str, topic: Topic, summary: str) -> dict[str, Any]:
    channel = f"#/channels/{topic.name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "messages": [{"$ref": f"{channel}/messages/{topic.event.__name__}"}],
    }


def _sentence(event: type[Event]) -> str:
    return (event.__doc__ or "").strip().split("\n\n", maxsplit=1)[0].replace("\n", " ")
