"""No client makes a topic, and what Kafka answers is said in words, with the address."""

from __future__ import annotations

import ast
from pathlib import Path

import aiokafka.client
import pytest
from aiokafka.protocol.metadata import MetadataRequest_v5
from confluent_kafka import KafkaError, KafkaException

from agents import engine
from tables.kafka_clients import client_settings, kafka_words

CLIENTS = ("Producer", "Consumer", "AdminClient", "Client")


def test_no_client_of_librdkafka_makes_topics() -> None:
    assert client_settings("k:1", "x")["allow.auto.create.topics"] is False
    root = Path(__file__).parents[2]
    made = []
    for folder in ("agents", "api", "app", "cli", "tables"):
        for path in (root / folder).rglob("*.py"):
            text = path.read_text()
            if "confluent_kafka" not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CLIENTS and node.args:
                    made.append(path.name)
            assert '"bootstrap.servers"' not in text or path.name == "kafka_clients.py", path
    assert {"topics.py", "log_positions.py", "normalize.py", "log_writer.py", "installation.py"} <= set(made)


def test_faust_s_client_makes_none() -> None:
    """aiokafka asks for the metadata of its topics by this request."""
    assert engine.CHUNK_RECORDS  # it is what sees to that
    request = aiokafka.client.MetadataRequest(["facts"])
    built = request.build(MetadataRequest_v5)
    assert built.allow_auto_topic_creation is False


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)),
            "Kafka at k:1: no broker can be reached (",
        ),
        (
            KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)),
            "Kafka at k:1: a topic is not there (",
        ),
        (TimeoutError(), "Kafka at k:1 does not answer (TimeoutError)"),
    ],
)
def test_its_errors_name_the_address(error: Exception, words: str) -> None:
    assert kafka_words(error, "k:1").startswith(words)
