"""What tests need of the shared Kafka node."""

from __future__ import annotations

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from app.settings import Settings
from cli.topics import TOPICS, ensure_topics


def delete_topics(kafka: str, topics: tuple[str, ...] = TOPICS) -> None:
    """Delete the topics that are there (their groups' offsets go with them) and wait until they are gone."""
    client = AdminClient({"bootstrap.servers": kafka, "log_level": 2})
    there = [topic for topic in topics if topic in client.list_topics(timeout=10).topics]
    if there:
        for future in client.delete_topics(there, request_timeout=10).values():
            future.result(10)
    deadline = time.monotonic() + 10
    while set(topics) & set(client.list_topics(timeout=10).topics):
        if time.monotonic() > deadline:
            raise TimeoutError("topics are still there")
        time.sleep(0.05)


def fresh_topics(settings: Settings) -> None:
    """The project's topics, made anew and empty."""
    delete_topics(settings.kafka)
    deadline = time.monotonic() + 10
    while True:
        try:
            ensure_topics(settings)
            return
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
