"""Whether topic `facts` still has all that was counted of it. What it no longer has, only the databases have.

That is asked before anybody is told to remove a database (`tables.broken.removal`), by `reports rebuild --from-log`,
and now and then by each worker, for its condition `log_incomplete`.

A log that lost its end says nothing of that itself: only who has counted more of it knows, a database or, once it is
published, Redis.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis.exceptions import RedisError

from app.errors import TryLater
from app.settings import Settings
from app.topics import FACTS
from tables.installation import ASK_S, InstallationLog
from tables.kafka_clients import asked_offsets, client_settings
from tables.origin import topic_ids
from tables.redis_client import redis_words
from tables.redis_names import sync_client
from tables.views import NUMBERS, Fence, fences_of


def lacking(kafka: str, partitions: Collection[int], counted: Mapping[int, Fence]) -> dict[int, str]:
    """Partition → what a database that is counted again from the log would lack, for operators; empty: nothing.

    `counted`: how far a partition was counted, and of which topic, as of before the call. Partitions whose log can't be
    asked now, and those that the topic doesn't have, are left out. Blocks for `ASK_S` a few times at most.
    Raises TryLater where Kafka doesn't answer at all, or the topic is gone.
    """
    topic = topic_ids(kafka, (FACTS,))[FACTS]
    histories = InstallationLog(kafka).histories(partitions)
    admin = AdminClient(client_settings(kafka, "reports-completeness"))
    found: dict[int, str] = {}
    for partition, asked in asked_offsets(admin, FACTS, partitions, ASK_S).items():
        try:
            start, end = (future.result(ASK_S).offset for future in asked)
        except (KafkaException, TimeoutError):
            continue  # its leader is away
        stood = counted.get(partition)
        reached = stood.offset if stood is not None and stood.topic == topic else 0
        found[partition] = histories[partition].lacks(topic, start, end, reached)
    return found


def lacking_of_published(settings: Settings, partitions: Collection[int]) -> dict[int, str]:
    """`lacking` by what Redis says was counted. `settings`: with the installation's id. Raises TryLater where Kafka or
    Redis doesn't answer."""
    try:
        with sync_client(settings.redis, settings.installation, timeout_s=ASK_S / 2) as client:
            published = fences_of(client.hgetall(NUMBERS.positions))
    except (RedisError, OSError) as error:
        raise TryLater(
            1, f"how far was counted can't be read: {redis_words(error, settings.redis)}"
        ) from error
    return lacking(settings.kafka, partitions, published)


def partitions_of(lacks: Mapping[int, str]) -> str:
    """The partitions of which the log lacks something, each with what it is; empty: there are none."""
    return ", ".join(f"{partition} ({lack})" for partition, lack in sorted(lacks.items()) if lack)
