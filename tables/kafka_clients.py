"""What every client of Kafka has in common, and what Kafka's errors mean in plain words.

No client ever makes a topic: one that is written to or read before it is there would get the broker's defaults, one
partition and a retention of a week. Topics are made by `cli.topics`, with the settings that the design asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

_LOG_LEVEL: Final = 2
"""librdkafka's own lines: critical ones only. What goes wrong is said by who asked."""

_WORDS: Final = {
    KafkaError._ALL_BROKERS_DOWN: "no broker can be reached",
    KafkaError._TRANSPORT: "no broker can be reached",
    KafkaError._TIMED_OUT: "no broker answers",
    KafkaError._RESOLVE: "its address has no name server's answer",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "a topic is not there",
    KafkaError._UNKNOWN_TOPIC: "a topic is not there",
    KafkaError._UNKNOWN_PARTITION: "a topic has too few partitions",
    KafkaError.NOT_ENOUGH_REPLICAS: "too few replicas are in sync: start the brokers that are missing",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "the client may not use the topic: allow it in the cluster's ACLs",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the client may not do that: allow it in the cluster's ACLs",
    KafkaError._AUTHENTICATION: "the client's credentials are refused",
}


def client_settings(kafka: str, client_id: str) -> dict[str, str | int | float | bool]:
    """Settings that every producer, consumer and admin client begins with."""
    return {
        "bootstrap.servers": kafka,
        "client.id": client_id,
        "allow.auto.create.topics": False,
        "log_level": _LOG_LEVEL,
    }


def asked_offsets(
    admin: AdminClient, topic: str, partitions: Iterable[int], timeout_s: float
) -> dict[int, tuple[Future[ListOffsetsResultInfo], Future[ListOffsetsResultInfo]]]:
    """Partition → its first offset, and the one behind its last record. All are asked at once; each future raises
    KafkaException where its partition can't be asked."""
    wanted = [TopicPartition(topic, partition) for partition in partitions]
    if not wanted:
        return {}
    spec: Any = OffsetSpec  # its constructors have no annotations
    starts = admin.list_offsets(dict.fromkeys(wanted, spec.earliest()), request_timeout=timeout_s)
    ends = admin.list_offsets(dict.fromkeys(wanted, spec.latest()), request_timeout=timeout_s)
    return {tp.partition: (starts[tp], ends[tp]) for tp in wanted}


def kafka_words(error: BaseException | KafkaError, kafka: str) -> str:
    """ "Kafka at ADDRESS: …", in one line."""
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else error
    if not isinstance(cause, KafkaError):
        return f"Kafka at {kafka} does not answer ({type(error).__name__})"
    words = _WORDS.get(cause.code())
    said = cause.str()
    return f"Kafka at {kafka}: {words} ({said})" if words else f"Kafka at {kafka}: {said}"
