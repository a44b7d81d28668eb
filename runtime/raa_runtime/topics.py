"""The topics of a deployment as they are created: the declarations of the schemas, sized by the settings."""

from datetime import timedelta
from typing import Final

from raa_runtime.bus.port import TopicSpec
from raa_runtime.settings import ServiceSettings
from raa_schemas.ids import owned
from raa_schemas.topics import (
    DEAD_LETTER_EXTRA_BYTES,
    MAX_MESSAGE_BYTES,
    SERVICES,
    TOPICS,
    dead_letter_topic,
    redrive_topic,
)

LETTERS_KEPT: Final = timedelta(days=30)


def topic_specs(settings: ServiceSettings) -> list[TopicSpec]:
    """List every topic of a deployment as it should be created."""
    partitions, replication = settings.kafka_partitions, settings.kafka_replication
    specs = [
        TopicSpec(
            owned(settings.deployment, topic.name),
            partitions,
            replication,
            topic.retention,
            topic.compacted,
            MAX_MESSAGE_BYTES,
        )
        for topic in TOPICS.values()
    ]
    specs += [
        TopicSpec(
            owned(settings.deployment, dead_letter_topic(group)),
            1,
            replication,
            LETTERS_KEPT,
            compacted=False,
            max_message_bytes=MAX_MESSAGE_BYTES + DEAD_LETTER_EXTRA_BYTES,
        )
        for group in SERVICES
    ]
    specs += [
        TopicSpec(
            owned(settings.deployment, redrive_topic(group)),
            partitions,
            replication,
            LETTERS_KEPT,
            compacted=False,
            max_message_bytes=MAX_MESSAGE_BYTES + 2 * DEAD_LETTER_EXTRA_BYTES,
        )
        for group in SERVICES
    ]
    return specs
